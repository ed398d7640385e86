"""Where the model stands: which version forecasts, its newest scores, and what was found of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stock_assets.config import Thresholds
from stock_assets.service.app_state import AppState
from stock_assets.storage.forecasts import PromotionRecord, promotions
from stock_assets.storage.serving.window import ScoredWindow, newest_window


@dataclass(frozen=True)
class ModelStatus:
    """The model in use.

    Attributes
    ----------
    promotion : PromotionRecord or None
        The last promotion, which put the version into production.
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
        """Version in production, as far as promotions tell."""
        return self.promotion.promoted_version if self.promotion else None

    @property
    def edge(self) -> str:
        """What the promotion said about an edge over persistence on its held-out sessions."""
        return edge_of(self.promotion.reason) if self.promotion else ""


def find_model_status(served: AppState) -> ModelStatus:
    """Read where the model stands."""
    promoted = promotions(served.engine, promoted_only=True)
    window = newest_window(served.engine, served.params.monitoring.window_sessions)
    return ModelStatus(promoted[0] if promoted else None, window)


def edge_of(reason: str) -> str:
    """Give the sentence of a decision's reason that speaks of an edge over persistence."""
    sentences = [part for part in reason.split(". ") if "edge over persistence" in part]
    return sentences[-1].rstrip(".") if sentences else ""


@dataclass(frozen=True)
class ThresholdCheck:
    """A score beside its threshold."""

    title: str
    value: float | None
    limit: float
    kept: bool
    limit_told: str


def check_thresholds(
    scores: Mapping[str, Any], thresholds: Thresholds
) -> dict[str, ThresholdCheck]:
    """Hold scores against the thresholds of monitoring; an undefined one keeps none."""
    limits = {
        "mape": ("Error (MAPE)", thresholds.mape_max, "at most"),
        "relative_mae": (
            "Error over persistence's (relative MAE)",
            thresholds.relative_mae_max,
            "at most",
        ),
        "direction_accuracy": ("Direction right", thresholds.direction_accuracy_min, "at least"),
    }
    judged = {}
    for name, (title, limit, told) in limits.items():
        value = scores[name]
        within = value is not None and (value <= limit if told == "at most" else value >= limit)
        judged[name] = ThresholdCheck(title, value, limit, within, told)
    return judged
