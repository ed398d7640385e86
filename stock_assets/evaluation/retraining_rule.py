"""When recent scores call for retraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Literal

import pandas as pd

from stock_assets.config import Monitoring, Thresholds
from stock_assets.evaluation.forecast_issues import count_backfilled
from stock_assets.evaluation.metrics import summarise
from stock_assets.market.calendar import sessions


class RetrainingOutcome(StrEnum):
    """What the newest scores call for; `BREACH` alone retrains."""

    NO_SCORES = "no_scores"
    TOO_FEW = "too_few"
    HEALTHY = "healthy"
    BREACH = "breach"
    COOLING_DOWN = "cooling_down"


@dataclass(frozen=True)
class ThresholdCheck:
    """A score and its threshold.

    Attributes
    ----------
    metric : str
    value : float or None
        None where the score is undefined. Only an undefined direction accuracy keeps its threshold:
        it means that no change was forecast, or that no price moved, which leaves the relative MAE
        undefined too.
    limit : float
    kind : "at_most" or "at_least"
        Which side of the limit passes; the limit itself does.
    """

    metric: str
    value: float | None
    limit: float
    kind: Literal["at_most", "at_least"]

    @property
    def passed(self) -> bool:
        """Whether the score keeps the threshold."""
        if self.value is None:
            return self.metric == "direction_accuracy"
        return self.value <= self.limit if self.kind == "at_most" else self.value >= self.limit


@dataclass(frozen=True)
class RetrainingDecision:
    """A decision whether to retrain and its evidence.

    Attributes
    ----------
    outcome : RetrainingOutcome
    session : date or None
        The newest scored session; None when nothing is scored.
    forecasts, sessions : int
        Size of the window that counted.
    minimum_forecasts, cooldown_sessions : int or None
        Parameters of the decision; None where they were not recorded.
    breaches : tuple of ThresholdCheck
        Failed thresholds, also while cooling down.
    metrics : dict or None
        Scores of the window, None where one is undefined; no dict with too few forecasts.
    last_retraining : date or None
        As-of session of the newest retraining.
    elapsed_sessions : int or None
        Sessions between it and `session`; None where no threshold failed or none was launched.
    backfilled : int or None
        How many of the forecasts are not known to be live; None where it was not recorded.
    """

    outcome: RetrainingOutcome
    session: date | None
    forecasts: int
    sessions: int
    minimum_forecasts: int | None
    cooldown_sessions: int | None
    breaches: tuple[ThresholdCheck, ...] = ()
    metrics: dict[str, Any] | None = None
    last_retraining: date | None = None
    elapsed_sessions: int | None = None
    backfilled: int | None = None

    @property
    def retrain(self) -> bool:
        """Whether to retrain now."""
        return self.outcome is RetrainingOutcome.BREACH


def decide_retraining(
    rows: pd.DataFrame, last_retraining: date | None, monitoring: Monitoring
) -> RetrainingDecision:
    """Decide whether the newest scores call for retraining.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts, from `stock_assets.evaluation.metrics.score_rows`, and how they were
        ``issued``; only those of the newest ``monitoring.window_sessions`` sessions count.
    last_retraining : date or None
        As-of session of the newest retraining; None when there was none.
    monitoring : Monitoring
        Thresholds, the smallest number of forecasts that decides anything, and the sessions between
        two retrainings.
    """
    newest = rows["session"].drop_duplicates().nlargest(monitoring.window_sessions)
    recent = rows[rows["session"].isin(newest)]
    session = None if newest.empty else pd.Timestamp(newest.max()).date()

    def decided(outcome: RetrainingOutcome, **evidence: Any) -> RetrainingDecision:
        return RetrainingDecision(
            outcome,
            session,
            len(recent),
            len(newest),
            monitoring.minimum_forecasts,
            monitoring.cooldown_sessions,
            last_retraining=last_retraining,
            backfilled=count_backfilled(recent),
            **evidence,
        )

    if session is None:
        return decided(RetrainingOutcome.NO_SCORES)
    if len(recent) < monitoring.minimum_forecasts:
        return decided(RetrainingOutcome.TOO_FEW)
    metrics = summarise(recent).to_dict()
    checks = check_thresholds(metrics, monitoring.thresholds)
    breaches = tuple(check for check in checks if not check.passed)
    if not breaches:
        return decided(RetrainingOutcome.HEALTHY, metrics=metrics)
    elapsed = _elapsed(last_retraining, session)
    cooling = elapsed is not None and elapsed < monitoring.cooldown_sessions
    outcome = RetrainingOutcome.COOLING_DOWN if cooling else RetrainingOutcome.BREACH
    return decided(outcome, metrics=metrics, breaches=breaches, elapsed_sessions=elapsed)


def check_thresholds(
    scores: Mapping[str, Any], thresholds: Thresholds
) -> tuple[ThresholdCheck, ...]:
    """Compare scores with the thresholds of monitoring.

    Parameters
    ----------
    scores : mapping
        ``mape``, ``relative_mae`` and ``direction_accuracy``; None where one is undefined.
    thresholds : Thresholds
    """
    limits: list[tuple[str, float, Literal["at_most", "at_least"]]] = [
        ("mape", thresholds.mape_max, "at_most"),
        ("relative_mae", thresholds.relative_mae_max, "at_most"),
        ("direction_accuracy", thresholds.direction_accuracy_min, "at_least"),
    ]
    return tuple(ThresholdCheck(name, scores[name], limit, kind) for name, limit, kind in limits)


def _elapsed(last_retraining: date | None, session: date) -> int | None:
    if last_retraining is None:
        return None
    return len(sessions(last_retraining + timedelta(days=1), session))
