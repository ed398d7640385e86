"""The status of the model: the version in production, and its newest scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION, Cause
from stock_assets.evaluation.shadow_rule import ShadowEvidence
from stock_assets.reporting.decision_text import edge_text, shadow_text
from stock_assets.reporting.score_figures import Mark
from stock_assets.service.app_state import AppState
from stock_assets.storage.decisions import PromotionRecord
from stock_assets.storage.production import production_changes
from stock_assets.storage.serving.decisions import promotion_in_force
from stock_assets.storage.serving.paging import Row
from stock_assets.storage.serving.production import find_in_force, list_changes
from stock_assets.storage.serving.window import ScoredWindow, newest_window
from stock_assets.storage.shadows import Shadow, current_shadow, shadow_scores

_ALL = 100_000


@dataclass(frozen=True)
class Production:
    """The version in force.

    Attributes
    ----------
    change : dict or None
        The newest change of the version in production, a row of ``production_history``; None before
        the first.
    """

    change: Row | None

    @property
    def version(self) -> int:
        """The number of the version; persistence is in force where no trained version is."""
        return (self.change and self.change["model_version"]) or PERSISTENCE_VERSION

    @property
    def is_persistence(self) -> bool:
        """Whether persistence is in force."""
        return self.version == PERSISTENCE_VERSION


def find_production(state: AppState) -> Production:
    """Read the version in force."""
    return Production(find_in_force(state.engine, state.model_name))


@dataclass(frozen=True)
class ModelStatus:
    """The model in use.

    Attributes
    ----------
    production : Production
        The version in force.
    promotion : PromotionRecord or None
        The decision about the version in production; None for one chosen without a decision.
    window : ScoredWindow or None
        Scores of the version that was scored last, over its newest ``monitoring.window_sessions``
        sessions, one session ahead.
    """

    production: Production
    promotion: PromotionRecord | None
    window: ScoredWindow | None

    @property
    def scores(self) -> Mapping[str, Any] | None:
        """Scores of all tickers together."""
        return self.window.pooled if self.window else None

    @property
    def version(self) -> int:
        """The version in production."""
        return self.production.version

    @property
    def scores_are_of_another_version(self) -> bool:
        """Whether the newest scores are of another version than the one in production."""
        if self.scores is None:
            return False
        change = self.production.change
        dataset = None if change is None else change["dataset_run_id"]
        of_scores = self.scores["model_version"], self.scores["dataset_run_id"]
        return of_scores != (self.version, dataset)

    @property
    def edge(self) -> str:
        """The edge over persistence on the held-out sessions of the decision, in words."""
        if self.promotion is None:
            return ""
        decision = self.promotion.decision
        return edge_text(decision.edge, decision.against_persistence)


def find_model_status(state: AppState) -> ModelStatus:
    """Read the status of the model."""
    window = newest_window(state.engine, state.params.monitoring.window_sessions)
    return ModelStatus(
        find_production(state),
        promotion_in_force(state.engine, state.model_name),
        window,
    )


@dataclass(frozen=True)
class ShadowStatus:
    """The candidate in shadow.

    Attributes
    ----------
    shadow : Shadow
    evidence : ShadowEvidence
        Of the sessions scored so far.
    """

    shadow: Shadow
    evidence: ShadowEvidence

    @property
    def text(self) -> str:
        """The state of the comparison, in words."""
        return shadow_text(self.evidence)


def find_shadow(state: AppState) -> ShadowStatus | None:
    """Read the candidate in shadow and its evidence so far; None without one."""
    history = production_changes(state.engine, state.model_name)
    shadow = current_shadow(state.engine, state.model_name, history)
    if shadow is None:
        return None
    scores = shadow_scores(state.engine, shadow.model)
    evidence = scores.evidence(shadow.model.version, state.params.promotion.shadow_sessions)
    return ShadowStatus(shadow, evidence)


def find_takeovers(state: AppState) -> list[Mark]:
    """Mark the first session of each version that was put in force.

    A winner is in force from its as-of session on, and what production stepped down to from the
    session of the decision; a version put in force in another way from the time of the change.
    """
    changes = list_changes(state.engine, state.model_name, None, _ALL, others=False)
    return [
        Mark(_first_session(change), f"v{change['model_version']}")
        for change in changes
        if change["from_session"] is not None
    ]


def _first_session(change: Row) -> date:
    first: date = change["from_session"]
    at_once = Cause(change["cause"]) in (Cause.PROMOTION, Cause.REFIT, Cause.STEP_DOWN)
    return first if at_once else max(first, change["in_force_from"].date())
