"""The candidate in shadow, and the scores that decide about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from stock_assets.evaluation.production_rule import ModelVersion, trained_in_force
from stock_assets.evaluation.promotion_rule import PromotionOutcome
from stock_assets.evaluation.shadow_rule import ShadowScores, pair_scores
from stock_assets.storage.decisions import PromotionRecord, promotions
from stock_assets.storage.forecasts import shadow_performance
from stock_assets.storage.production import ProductionChange


@dataclass(frozen=True)
class Shadow:
    """The candidate in shadow.

    Attributes
    ----------
    model : ModelVersion
        The version that forecasts in shadow: the candidate, or its refit; without a digest.
    decided : PromotionRecord
        The newest decision about it.
    """

    model: ModelVersion
    decided: PromotionRecord


def current_shadow(
    engine: Engine, model_name: str, history: Sequence[ProductionChange]
) -> Shadow | None:
    """Return the candidate in shadow; None without one.

    A new candidate in shadow replaces the one before. A shadow ends without a decision if its
    version was put in force, or a version as of a later session is.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    model_name : str
        The registered model.
    history : sequence of ProductionChange
        The history of production, oldest first.
    """
    decided = _newest_about_the_last_entry(promotions(engine, model_name))
    if decided is None or not decided.in_shadow:
        return None
    number = decided.promoted_version
    model = ModelVersion(
        version=number,
        mlflow_run_id=decided.mlflow_run_id,
        dataset_run_id=decided.dataset_run_id,
        as_of=decided.as_of_session,
        digest=None,
        refit_of=None if decided.refit_version is None else decided.candidate_version,
    )
    production = trained_in_force(history)
    later = production is not None and production.as_of > model.as_of
    was_in_force = any(model.is_same(change.model) for change in history)
    return None if later or was_in_force else Shadow(model, decided)


def shadow_scores(engine: Engine, model: ModelVersion) -> ShadowScores:
    """Read the scores that decide about a version in shadow."""
    return pair_scores(*shadow_performance(engine, model.key), model.as_of)


def _newest_about_the_last_entry(decisions: Sequence[PromotionRecord]) -> PromotionRecord | None:
    """Return the newest decision about the candidate that entered the shadow last."""
    outcome = PromotionOutcome.SHADOW
    entry = next((one for one in decisions if one.decision.outcome is outcome), None)
    if entry is None:
        return None
    same = (entry.dataset_run_id, entry.candidate_version)
    return next(one for one in decisions if (one.dataset_run_id, one.candidate_version) == same)
