"""The status of the model: the version in production, its newest scores and their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stock_assets.reporting.decision_text import edge_text
from stock_assets.service.app_state import AppState
from stock_assets.storage.forecasts import PromotionRecord
from stock_assets.storage.serving.decisions import champion_promotion
from stock_assets.storage.serving.window import ScoredWindow, newest_window


@dataclass(frozen=True)
class ModelStatus:
    """The model in use.

    Attributes
    ----------
    promotion : PromotionRecord or None
        The decision that put the version into production.
    window : ScoredWindow or None
        Scores of the version that was scored last, over its newest ``monitoring.window_sessions``
        sessions, one session ahead.
    """

    promotion: PromotionRecord | None
    window: ScoredWindow | None

    @property
    def scores(self) -> Mapping[str, Any] | None:
        """Scores of all tickers together."""
        return self.window.pooled if self.window else None

    @property
    def version(self) -> int | None:
        """The version in production by the recorded promotions."""
        return self.promotion.promoted_version if self.promotion else None

    @property
    def edge(self) -> str:
        """The edge over persistence on the held-out sessions of the promotion, in words."""
        if self.promotion is None:
            return ""
        decision = self.promotion.decision
        return edge_text(decision.edge, decision.against_persistence)


def find_model_status(state: AppState) -> ModelStatus:
    """Read the status of the model."""
    window = newest_window(state.engine, state.params.monitoring.window_sessions)
    return ModelStatus(champion_promotion(state.engine), window)
