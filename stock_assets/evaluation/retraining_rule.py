"""When recent scores, or the age of a model, call for retraining.

Three detectors (:mod:`stock_assets.evaluation.change_detection`) read a number a session each: the
model's loss against persistence's, and the shares of tickers above and below their intervals. The
mean of their evidence raises the alarm. Hard limits, invalid forecasts and the maximum age lie
outside the bound on false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from stock_assets.config import Monitoring
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.alarm import AlarmState, alarm_state
from stock_assets.evaluation.change_detection import DetectorBounds
from stock_assets.evaluation.forecast_issues import count_backfilled
from stock_assets.evaluation.hard_limits import ThresholdCheck, check_newest
from stock_assets.evaluation.session_losses import session_numbers
from stock_assets.market.calendar import previous_session, sessions


class RetrainingOutcome(StrEnum):
    """What the newest scores call for; those of `_RETRAINING` retrain."""

    NO_SCORES = "no_scores"
    HEALTHY = "healthy"
    ALARM = "alarm"
    """The evidence of the detectors has reached its limit."""
    HARD_LIMIT = "hard_limit"
    """A hard limit is broken, or the model makes forecasts that are invalid."""
    AGE = "age"
    """The model has reached the maximum age."""
    NO_MODEL = "no_model"
    """Persistence (version 0) is in force, and a new attempt is due."""
    COOLING_DOWN = "cooling_down"

    TOO_FEW = "too_few"
    """Only in decisions of earlier versions: fewer forecasts than a minimum."""
    BREACH = "breach"
    """Only in decisions of earlier versions: a threshold was broken."""


_RETRAINING = (
    RetrainingOutcome.ALARM,
    RetrainingOutcome.HARD_LIMIT,
    RetrainingOutcome.AGE,
    RetrainingOutcome.NO_MODEL,
    RetrainingOutcome.BREACH,
)


@dataclass(frozen=True)
class RetrainingDecision:
    """A decision whether to retrain and its evidence.

    Attributes
    ----------
    outcome : RetrainingOutcome
    session : date or None
        The newest scored session; None when nothing is scored.
    forecasts, sessions : int
        Size of the evidence.
    cooldown_sessions : int or None
        Parameter of the decision; None where it was not recorded.
    breaches : tuple of ThresholdCheck
        Broken hard limits, also while cooling down.
    metrics : dict or None
        Scores of the newest sessions, which the hard limits are about; None where one is undefined.
        No dict where none was checked.
    last_retraining : date or None
        As-of session of the newest retraining.
    elapsed_sessions : int or None
        Sessions between it and `session`, where that decided.
    backfilled : int or None
        How many of the forecasts are not known to be live; None where it was not recorded.
    model_version : int or None
        The version that was scored; None in decisions of earlier versions.
    evidence_from : date or None
        The first session of the evidence: the first one scored since the version was trained, or
        since the last retraining.
    alarm : AlarmState or None
        None for persistence, and in decisions of earlier versions.
    age_sessions, due_sessions : int or None
        Sessions since the newest data of a model, or the last retraining, and the number at which
        a retraining is due; None where there is no maximum age.
    invalid_forecasts : bool
        Whether the newest forecasts of the version failed their check.
    minimum_forecasts : int or None
        Only in decisions of earlier versions.
    """

    outcome: RetrainingOutcome
    session: date | None
    forecasts: int
    sessions: int
    cooldown_sessions: int | None = None
    breaches: tuple[ThresholdCheck, ...] = ()
    metrics: dict[str, Any] | None = None
    last_retraining: date | None = None
    elapsed_sessions: int | None = None
    backfilled: int | None = None
    model_version: int | None = None
    evidence_from: date | None = None
    alarm: AlarmState | None = None
    age_sessions: int | None = None
    due_sessions: int | None = None
    invalid_forecasts: bool = False
    minimum_forecasts: int | None = None

    @property
    def retrain(self) -> bool:
        """Whether to retrain now."""
        return self.outcome in _RETRAINING

    @property
    def evidence_begins(self) -> date | None:
        """The first of the sessions that raised the alarm; None where none was raised."""
        if self.outcome in (RetrainingOutcome.ALARM, RetrainingOutcome.HARD_LIMIT):
            return self.evidence_from or self.session
        if self.outcome is RetrainingOutcome.BREACH and self.session is not None:
            return previous_session(self.session, max(self.sessions - 1, 0))
        return None


@dataclass(frozen=True)
class Production:
    """What is known about the version in force.

    Attributes
    ----------
    version : int
    as_of : date or None
        The newest session that it has learnt from; None for persistence.
    bounds : DetectorBounds or None
        The parameters of its detectors; None for persistence.
    invalid_forecasts : bool
        Whether its newest forecasts failed their check.
    """

    version: int
    as_of: date | None
    bounds: DetectorBounds | None
    invalid_forecasts: bool = False


def evidence_start(as_of: date | None, last_retraining: date | None) -> date | None:
    """Return the session after which scores of a version are evidence; None for all of them.

    Evidence starts anew when a version is put in force and after each retraining.
    """
    return max((day for day in (as_of, last_retraining) if day is not None), default=None)


def decide_retraining(
    rows: pd.DataFrame,
    production: Production,
    newest: date | None,
    last_retraining: date | None,
    monitoring: Monitoring,
    attempt_sessions: int,
) -> RetrainingDecision:
    """Decide whether to retrain, as of the newest session that the version in force is scored on.

    Invalid forecasts retrain at once, also without a score and within the cooldown: the version
    has stopped forecasting.

    Parameters
    ----------
    rows : DataFrame
        Forecasts of the version in force, scored by
        `stock_assets.evaluation.metrics.score_rows`, with their ``as_of_session`` and how they were
        ``issued``. Those one session ahead, of sessions after `evidence_start`, count.
    production : Production
    newest : date or None
        The newest session that any version is scored on.
    last_retraining : date or None
        As-of session of the newest retraining; None when there was none.
    monitoring : Monitoring
    attempt_sessions : int
        Sessions between two attempts while persistence is in force.

    Raises
    ------
    StockAssetsError
        A forecast was made on or after the session it is scored on.
    """
    start = evidence_start(production.as_of, last_retraining)
    counted = rows["horizon"] == 1
    if start is not None:
        counted &= rows["session"] > pd.Timestamp(start)
    rows = rows[counted]
    _require_earlier(rows)
    days = [pd.Timestamp(day).date() for day in np.sort(rows["session"].unique())]
    facts: dict[str, Any] = {
        "session": newest if production.invalid_forecasts else (days[-1] if days else None),
        "forecasts": len(rows),
        "sessions": len(days),
        "cooldown_sessions": monitoring.cooldown_sessions,
        "last_retraining": last_retraining,
        "backfilled": count_backfilled(rows),
        "model_version": production.version,
        "evidence_from": days[0] if days else None,
        "invalid_forecasts": production.invalid_forecasts,
    }
    session = facts["session"]
    if session is None:
        return RetrainingDecision(RetrainingOutcome.NO_SCORES, **facts)
    elapsed = _elapsed(last_retraining, session)
    if production.bounds is None:
        waited = len(days) if elapsed is None else elapsed
        due = waited >= attempt_sessions
        outcome = RetrainingOutcome.NO_MODEL if due else RetrainingOutcome.HEALTHY
        return RetrainingDecision(
            outcome, **facts, age_sessions=waited, due_sessions=attempt_sessions
        )
    alarm = alarm_state(
        session_numbers(rows), production.bounds, float(monitoring.sessions_between_false_alarms)
    )
    metrics, breaches = check_newest(rows, days, monitoring)
    age, due_at = _elapsed(start, session), monitoring.retrain_after_sessions
    facts |= {"alarm": alarm, "metrics": metrics, "breaches": breaches}
    facts |= {"age_sessions": age, "due_sessions": due_at}
    if breaches or production.invalid_forecasts:
        cause = RetrainingOutcome.HARD_LIMIT
    elif alarm.raised:
        cause = RetrainingOutcome.ALARM
    elif age is not None and due_at is not None and age >= due_at:
        cause = RetrainingOutcome.AGE
    else:
        return RetrainingDecision(RetrainingOutcome.HEALTHY, **facts)
    cooling = elapsed is not None and elapsed < monitoring.cooldown_sessions
    outcome = cause
    if cooling and not production.invalid_forecasts:
        outcome = RetrainingOutcome.COOLING_DOWN
    return RetrainingDecision(outcome, **facts, elapsed_sessions=elapsed)


def _require_earlier(rows: pd.DataFrame) -> None:
    """Refuse scores of forecasts that could have seen their outcome."""
    late = rows[rows["as_of_session"] >= rows["session"]]
    if late.empty:
        return
    row = late.iloc[0]
    raise StockAssetsError(
        f"the forecast of {row['ticker']} for {pd.Timestamp(row['session']).date()} was made as of "
        f"{pd.Timestamp(row['as_of_session']).date()}, so that it is no evidence",
        "Score that session again: stock-assets backfill performance_log",
    )


def _elapsed(since: date | None, session: date) -> int | None:
    if since is None:
        return None
    return len(sessions(since + timedelta(days=1), session))
