"""Retraining: what the newest scores call for."""

from __future__ import annotations

from datetime import date
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from stock_assets.config import Monitoring, Thresholds
from stock_assets.evaluation.metrics import score_rows, summarise
from stock_assets.evaluation.retraining_rule import (
    RetrainingDecision,
    RetrainingOutcome,
    ThresholdCheck,
    decide_retraining,
)
from stock_assets.market.calendar import previous_session, sessions

DAYS = sessions(date(2012, 11, 1), date(2013, 2, 28))
NEWEST = DAYS[-1]
MONITORING = Monitoring(
    window_sessions=20,
    minimum_forecasts=50,
    cooldown_sessions=20,
    thresholds=Thresholds(mape_max=0.10, relative_mae_max=1.10, direction_accuracy_min=0.40),
)


def scored(gains: list[float], days: list[date] = DAYS) -> pd.DataFrame:
    """Five tickers that rise 1 % a day, forecast as ``gains`` of that rise, one gain per day."""
    frame = pd.DataFrame(
        {
            "session": np.repeat(pd.to_datetime(days), 5),
            "ticker": list("ABCDE") * len(days),
            "horizon": 1,
            "persistence": 100.0,
            "actual": 101.0,
            "predicted": 100.0 + np.repeat(gains, 5),
            "issued": "live",
        }
    )
    return score_rows(frame)


GOOD = scored([0.9] * len(DAYS))
BAD = scored([-0.5] * len(DAYS))


def failed(decision: RetrainingDecision) -> list[str]:
    return [breach.metric for breach in decision.breaches]


def test_scores_within_every_threshold_are_healthy() -> None:
    decision = decide_retraining(GOOD, None, MONITORING)
    assert decision.outcome is RetrainingOutcome.HEALTHY
    assert (decision.forecasts, decision.sessions, decision.session) == (100, 20, NEWEST)
    assert failed(decision) == []


def test_a_breach_calls_for_retraining_and_holds_what_failed() -> None:
    decision = decide_retraining(BAD, None, MONITORING)
    assert decision.retrain
    assert decision.outcome is RetrainingOutcome.BREACH
    assert decision.metrics is not None
    assert decision.breaches == (
        ThresholdCheck("relative_mae", decision.metrics["relative_mae"], 1.1, "at_most"),
        ThresholdCheck("direction_accuracy", 0.0, 0.4, "at_least"),
    )


@pytest.mark.parametrize(
    ("metric", "kind", "value", "passed"),
    [
        ("mape", "at_most", 0.1, True),
        ("mape", "at_most", 0.11, False),
        ("direction_accuracy", "at_least", 0.1, True),
        ("direction_accuracy", "at_least", 0.09, False),
        ("mape", "at_most", None, False),
        ("direction_accuracy", "at_least", None, True),
    ],
)
def test_the_limit_itself_passes_and_an_undefined_error_does_not(
    metric: str, kind: Literal["at_most", "at_least"], value: float | None, passed: bool
) -> None:
    assert ThresholdCheck(metric, value, 0.1, kind).passed is passed


def test_each_threshold_can_fail_alone() -> None:
    strict = Thresholds(mape_max=0.0001, relative_mae_max=1.1, direction_accuracy_min=0.4)
    decision = decide_retraining(GOOD, None, MONITORING.model_copy(update={"thresholds": strict}))
    assert failed(decision) == ["mape"]
    assert decision.retrain


def test_only_the_newest_sessions_count() -> None:
    recovered = scored([-0.5] * (len(DAYS) - 20) + [0.9] * 20)
    decision = decide_retraining(recovered, None, MONITORING)
    assert not decision.retrain
    assert decision.session == NEWEST
    assert decision.metrics == summarise(GOOD.tail(20 * 5)).to_dict()


def test_too_few_forecasts_decide_nothing() -> None:
    decision = decide_retraining(BAD.tail(49), None, MONITORING)
    assert decision.outcome is RetrainingOutcome.TOO_FEW
    assert decision.metrics is None
    assert (decision.session, decision.forecasts, decision.minimum_forecasts) == (NEWEST, 49, 50)
    assert decide_retraining(BAD.tail(50), None, MONITORING).retrain


def test_no_forecast_at_all_decides_nothing() -> None:
    decision = decide_retraining(BAD.head(0), None, MONITORING)
    assert decision.outcome is RetrainingOutcome.NO_SCORES
    assert decision.session is None


@pytest.mark.parametrize(("elapsed", "retrain"), [(0, False), (19, False), (20, True), (30, True)])
def test_the_cooldown_is_counted_in_sessions(elapsed: int, retrain: bool) -> None:
    last = previous_session(NEWEST, elapsed) if elapsed else NEWEST
    decision = decide_retraining(BAD, last, MONITORING)
    assert decision.retrain is retrain
    assert (decision.outcome is RetrainingOutcome.COOLING_DOWN) is not retrain
    assert (decision.elapsed_sessions, decision.last_retraining) == (elapsed, last)
    assert len(decision.breaches) == 2


def test_a_retraining_newer_than_the_scores_cools_down() -> None:
    assert not decide_retraining(BAD, date(2013, 3, 8), MONITORING).retrain


def test_without_a_cooldown_a_breach_retrains_at_once() -> None:
    eager = MONITORING.model_copy(update={"cooldown_sessions": 0})
    assert decide_retraining(BAD, NEWEST, eager).retrain


def test_forecasts_of_no_change_are_healthy() -> None:
    """They have no direction, and the errors of persistence."""
    decision = decide_retraining(scored([0.0] * len(DAYS)), None, MONITORING)
    assert decision.outcome is RetrainingOutcome.HEALTHY
    assert decision.metrics is not None
    assert decision.metrics["direction_accuracy"] is None
    assert decision.metrics["relative_mae"] == 1.0


def test_an_undefined_error_is_never_healthy() -> None:
    frozen = score_rows(GOOD.assign(actual=100.0, predicted=100.0))
    decision = decide_retraining(frozen, None, MONITORING)
    assert decision.retrain
    assert decision.breaches == (ThresholdCheck("relative_mae", None, 1.1, "at_most"),)


def test_the_order_of_rows_changes_nothing() -> None:
    mixed = scored([0.9, -0.5] * (len(DAYS) // 2) + [0.9] * (len(DAYS) % 2))
    shuffled = mixed.sample(frac=1, random_state=1)
    first = decide_retraining(mixed, None, MONITORING)
    second = decide_retraining(shuffled, None, MONITORING)
    assert (first.outcome, failed(first)) == (second.outcome, failed(second))
