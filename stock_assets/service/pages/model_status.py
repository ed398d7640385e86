"""The status of the model: the version in production, its newest scores and their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stock_assets.reporting.decision_text import edge_text
from stock_assets.service.app_state import AppState
from stock_assets.storage.forecasts import PromotionRecord
from stock_assets.storage.serving.decisions import promotion_in_force
from stock_assets.storage.serving.paging import Row
from stock_assets.storage.serving.production import find_in_force
from stock_assets.storage.serving.window import ScoredWindow, newest_window


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
    def edge(self) -> str:
        """The edge over persistence on the held-out sessions of the decision, in words."""
        if self.promotion is None:
            return ""
        decision = self.promotion.decision
        return edge_text(decision.edge, decision.against_persistence)


def find_model_status(state: AppState) -> ModelStatus:
    """Read the status of the model."""
    window = newest_window(state.engine, state.params.monitoring.window_sessions)
    return ModelStatus(find_in_force(state.engine), promotion_in_force(state.engine), window)
