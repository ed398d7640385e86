"""The status of the model: the version in production, its newest scores and their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from stock_assets.evaluation.production_rule import Cause
from stock_assets.reporting.decision_text import edge_text
from stock_assets.reporting.score_figures import Mark
from stock_assets.service.app_state import AppState
from stock_assets.storage.decisions import PromotionRecord
from stock_assets.storage.serving.decisions import promotion_in_force
from stock_assets.storage.serving.paging import Row
from stock_assets.storage.serving.production import find_in_force, list_changes
from stock_assets.storage.serving.window import ScoredWindow, newest_window

_ALL = 100_000


@dataclass(frozen=True)
class ModelStatus:
    """The model in use.

    Attributes
    ----------
    in_force : dict or None
        The newest change of the version in production, a row of ``production_history``.
    promotion : PromotionRecord or None
        The decision about the version in production; None for one chosen without a decision.
    window : ScoredWindow or None
        Scores of the version that was scored last, over its newest ``monitoring.window_sessions``
        sessions, one session ahead.
    """

    in_force: Row | None
    promotion: PromotionRecord | None
    window: ScoredWindow | None

    @property
    def scores(self) -> Mapping[str, Any] | None:
        """Scores of all tickers together."""
        return self.window.pooled if self.window else None

    @property
    def version(self) -> int | None:
        """The version in production."""
        return self.in_force["model_version"] if self.in_force else None

    @property
    def scores_are_of_another_version(self) -> bool:
        """Whether the newest scores are of another version than the one in production."""
        if self.version is None or self.in_force is None or self.scores is None:
            return False
        return any(
            self.in_force[name] != self.scores[name] for name in ("model_version", "dataset_run_id")
        )

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
        find_in_force(state.engine, state.model_name),
        promotion_in_force(state.engine, state.model_name),
        window,
    )


def find_takeovers(state: AppState) -> list[Mark]:
    """Mark the first session of each version that was put in force.

    A winner is in force from its as-of session on, and a version put in force in another way from
    the time of the change.
    """
    changes = list_changes(state.engine, state.model_name, None, _ALL, others=False)
    return [
        Mark(_first_session(change), f"v{change['model_version']}")
        for change in changes
        if change["model_version"] is not None
    ]


def _first_session(change: Row) -> date:
    first: date = change["from_session"]
    won = Cause(change["cause"]) in (Cause.PROMOTION, Cause.REFIT)
    return first if won else max(first, change["in_force_from"].date())
