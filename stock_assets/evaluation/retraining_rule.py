"""When recent scores call for retraining."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd

from stock_assets.config import Monitoring, Thresholds
from stock_assets.evaluation.metrics import Metrics, summarise
from stock_assets.market.calendar import sessions


@dataclass(frozen=True)
class RetrainingDecision:
    """The decision and its evidence.

    Attributes
    ----------
    retrain : bool
        Whether to retrain now.
    breaches : tuple of str
        One sentence per threshold that the scores break, also while they may not yet be acted on.
    reason : str
        A sentence that says why.
    metrics : Metrics or None
        Scores of the sessions that counted; None when too few forecasts are scored.
    session : date or None
        The newest scored session; None when nothing is scored.
    """

    retrain: bool
    breaches: tuple[str, ...]
    reason: str
    metrics: Metrics | None
    session: date | None


def decide_retraining(
    rows: pd.DataFrame, last_retraining: date | None, monitoring: Monitoring
) -> RetrainingDecision:
    """Decide whether the newest scores call for retraining.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts, from `stock_assets.evaluation.metrics.score_rows`; only those of the
        newest ``monitoring.window_sessions`` sessions count.
    last_retraining : date or None
        The as-of session of the newest retraining; None when there was none.
    monitoring : Monitoring
        Thresholds, the least number of forecasts that decides anything, and how many sessions must
        pass between two retrainings.
    """
    if rows.empty:
        return RetrainingDecision(False, (), "No decision: no forecast is scored yet", None, None)
    newest = rows["session"].drop_duplicates().nlargest(monitoring.window_sessions)
    recent = rows[rows["session"].isin(newest)]
    session = pd.Timestamp(newest.max()).date()
    scored = f"{len(recent)} forecasts of {len(newest)} sessions up to {session}"
    if len(recent) < monitoring.minimum_forecasts:
        reason = f"No decision: {scored} are fewer than {monitoring.minimum_forecasts} forecasts"
        return RetrainingDecision(False, (), reason, None, session)
    metrics = summarise(recent)
    breaches = _breaches(metrics, monitoring.thresholds)
    if not breaches:
        reason = f"Healthy: {scored} keep every threshold"
        return RetrainingDecision(False, (), reason, metrics, session)
    reason = f"{scored}: {'; '.join(breaches)}"
    if last_retraining is not None:
        elapsed = len(sessions(last_retraining + timedelta(days=1), session))
        if elapsed < monitoring.cooldown_sessions:
            reason = (
                f"Cooling down: {elapsed} sessions since the retraining as of {last_retraining}, "
                f"of the {monitoring.cooldown_sessions} that must pass; {reason}"
            )
            return RetrainingDecision(False, breaches, reason, metrics, session)
    return RetrainingDecision(True, breaches, f"Retrain: {reason}", metrics, session)


def _breaches(metrics: Metrics, thresholds: Thresholds) -> tuple[str, ...]:
    # An undefined score compares as False, and so counts as a breach: it never reads as healthy.
    checks = [
        (
            metrics.mape <= thresholds.mape_max,
            f"MAPE {metrics.mape:.4g} is not within {thresholds.mape_max:.4g}",
        ),
        (
            metrics.relative_mae <= thresholds.relative_mae_max,
            f"relative MAE {metrics.relative_mae:.4g} is not within "
            f"{thresholds.relative_mae_max:.4g}",
        ),
        (
            metrics.direction_accuracy >= thresholds.direction_accuracy_min,
            f"direction accuracy {metrics.direction_accuracy:.4g} "
            f"does not reach {thresholds.direction_accuracy_min:.4g}",
        ),
    ]
    return tuple(sentence for kept, sentence in checks if not kept)
