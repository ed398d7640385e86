"""The candidate in shadow: its forecasts, its scores, and the decision that ends the shadow.

The rules are in :mod:`stock_assets.evaluation.shadow_rule` and
:mod:`stock_assets.evaluation.promotion_rule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pandas as pd
from sqlalchemy import Engine

from stock_assets.config import Promotion
from stock_assets.evaluation.forecast_checks import invalid_forecasts
from stock_assets.evaluation.forecast_issues import Reason, Role
from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.evaluation.production_rule import ModelVersion, trained_in_force
from stock_assets.evaluation.promotion_rule import PromotionOutcome, decide_after_shadow
from stock_assets.evaluation.scorecard import score_models
from stock_assets.evaluation.shadow_rule import (
    ShadowOutcome,
    ShadowScores,
    decide_shadow,
    evidence_path,
)
from stock_assets.pipeline.production import registered
from stock_assets.registry import Registry
from stock_assets.storage.decisions import (
    PromotionRecord,
    save_promotion,
)
from stock_assets.storage.forecast_issues import Issue
from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.prices import read_bars
from stock_assets.storage.production import ProductionChange
from stock_assets.storage.shadows import Shadow, shadow_scores


def forecast_in_shadow(
    engine: Engine,
    registry: Registry,
    model: ModelVersion,
    sessions: Sequence[date],
    tickers: Sequence[str],
    issue: Issue,
) -> pd.DataFrame:
    """Forecast as of the sessions that a version in shadow may forecast; nothing is stored.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    registry : Registry
    model : ModelVersion
    sessions : sequence of date
        As-of sessions, ascending; those before the version's own are left out.
    tickers : sequence of str
        The universe.
    issue : Issue
        Inputs of production's forecasts of the same run: prices are read as known then.

    Returns
    -------
    DataFrame
        Columns of ``predictions``, without the sessions that have an invalid forecast.
    """
    days = [session for session in sessions if session >= model.as_of]
    if not days:
        return pd.DataFrame()
    bundle = registry.load(registered(registry, model).version)
    known_at = issue.known_at
    bars = read_bars(engine, bundle.recipe.first_session, days[-1], known_at=known_at)
    made = bundle.forecast(bars, days, bundle.panel(bars, days[-1])).assign(
        model_version=model.version,
        dataset_run_id=model.dataset_run_id,
        mlflow_run_id=model.mlflow_run_id,
    )
    rows = made[made["ticker"].isin(tickers)]
    invalid = invalid_forecasts(rows.assign(model_as_of=pd.Timestamp(model.as_of)))
    valid = rows[~rows["as_of_session"].isin(invalid["as_of_session"])]
    return valid.sort_values(["as_of_session", "ticker", "horizon"], ignore_index=True)


def store_shadow_forecasts(
    engine: Engine,
    rows: pd.DataFrame,
    model: ModelVersion,
    tickers: Sequence[str],
    issue: Issue,
    dagster_run_id: str,
    reason: Reason | None = None,
    started_by: str | None = None,
) -> None:
    """Issue forecasts with the role `Role.SHADOW`; arguments as for ``store_forecasts``."""
    if rows.empty:
        return
    facts = replace(issue, dagster_run_id=dagster_run_id, reason=reason, started_by=started_by)
    own = rows.assign(dagster_run_id=dagster_run_id)
    days = sorted(set(own["as_of_session"].dt.date))
    save_predictions(engine, own, days, model.version, tickers, None, facts, Role.SHADOW)


def due_outcome(scores: ShadowScores, shadow: Shadow, period: int) -> tuple[ShadowOutcome, int]:
    """Return the next decision about a shadow, and the number of sessions that it rests on."""
    path = evidence_path(scores.differences().to_numpy())
    before = shadow.decided.decision.shadow
    decided = 0 if before is None else len(before.sessions)
    return decide_shadow(path, scores.losses().to_numpy(), period, decided)


def decide_on_shadow(
    engine: Engine,
    history: Sequence[ProductionChange],
    shadow: Shadow,
    promotion: Promotion,
    dagster_run_id: str,
) -> PromotionRecord | None:
    """Decide about the candidate in shadow and store the decision; None if none is due."""
    scores = shadow_scores(engine, shadow.model)
    outcome, count = due_outcome(scores, shadow, promotion.shadow_sessions)
    if outcome is ShadowOutcome.OPEN:
        return None
    used = scores.first(count)
    cards = score_models(
        {
            "candidate": used.candidate,
            "production": used.production,
            "persistence": score_rows(persistence_forecasts(used.candidate)),
        }
    )
    evidence = used.evidence(shadow.model.version, promotion.shadow_sessions)
    held_out = shadow.decided.decision.detection  # from the sessions before the launch
    decision = replace(decide_after_shadow(cards, outcome, evidence, promotion), detection=held_out)
    production = trained_in_force(history)
    days = used.candidate["as_of_session"].dt.date
    again = decision.promote and promotion.refit  # as of the last session that decided
    decided = replace(
        shadow.decided,
        refit_version=None if again else shadow.decided.refit_version,
        production_version=None if production is None else production.version,
        metric=decision.metric,
        candidate=cards["candidate"].to_dict(),
        production=cards["production"].to_dict(),
        persistence=cards["persistence"].to_dict() | {"baselines": {}},
        first_session=days.min(),
        last_session=days.max(),
        promoted=decision.promote,
        decision=decision,
        dagster_run_id=dagster_run_id,
    )
    save_promotion(engine, decided)
    return decided


def replace_shadow(engine: Engine, shadow: Shadow, period: int, dagster_run_id: str) -> None:
    """Store the decision that ends a shadow because another candidate enters it.

    Its scores are those of the decision before.
    """
    scores = shadow_scores(engine, shadow.model)
    evidence, before = scores.evidence(shadow.model.version, period), shadow.decided.decision
    decision = replace(before, outcome=PromotionOutcome.SHADOW_REPLACED, shadow=evidence)
    days = sorted(set(scores.candidate["as_of_session"].dt.date)) or [shadow.model.as_of]
    save_promotion(
        engine,
        replace(
            shadow.decided,
            first_session=days[0],
            last_session=days[-1],
            promoted=False,
            decision=decision,
            dagster_run_id=dagster_run_id,
        ),
    )
