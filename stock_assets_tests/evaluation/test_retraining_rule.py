"""Retraining: breach, healthy, too few, cooling down."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.config import Monitoring, Thresholds
from stock_assets.evaluation.metrics import score_rows, summarise
from stock_assets.evaluation.retraining_rule import decide_retraining
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
        }
    )
    return score_rows(frame)


GOOD = scored([0.9] * len(DAYS))
BAD = scored([-0.5] * len(DAYS))


def test_scores_within_every_threshold_are_healthy() -> None:
    decision = decide_retraining(GOOD, None, MONITORING)
    assert not decision.retrain
    assert decision.breaches == ()
    assert decision.reason == (
        "Healthy: 100 forecasts of 20 sessions up to 2013-02-28 keep every threshold"
    )


def test_a_breach_calls_for_retraining_and_says_which() -> None:
    decision = decide_retraining(BAD, None, MONITORING)
    assert decision.retrain
    assert decision.breaches == (
        "relative MAE 1.5 is not within 1.1",
        "direction accuracy 0 does not reach 0.4",
    )
    assert decision.reason.startswith("Retrain: 100 forecasts of 20 sessions up to 2013-02-28: ")
    assert all(breach in decision.reason for breach in decision.breaches)


def test_each_threshold_breaks_by_itself() -> None:
    strict = Thresholds(mape_max=0.0001, relative_mae_max=1.1, direction_accuracy_min=0.4)
    decision = decide_retraining(GOOD, None, MONITORING.model_copy(update={"thresholds": strict}))
    assert [breach.split()[0] for breach in decision.breaches] == ["MAPE"]
    assert decision.retrain


def test_only_the_newest_sessions_count() -> None:
    recovered = scored([-0.5] * (len(DAYS) - 20) + [0.9] * 20)
    decision = decide_retraining(recovered, None, MONITORING)
    assert not decision.retrain
    assert decision.session == NEWEST
    assert decision.metrics is not None
    newest = summarise(GOOD.tail(20 * 5))
    assert (decision.metrics.sessions, decision.metrics.relative_mae) == (20, newest.relative_mae)


def test_too_few_forecasts_decide_nothing() -> None:
    decision = decide_retraining(BAD.tail(49), None, MONITORING)
    assert not decision.retrain
    assert decision.metrics is None
    assert decision.session == NEWEST
    assert decision.reason == (
        "No decision: 49 forecasts of 10 sessions up to 2013-02-28 are fewer than 50 forecasts"
    )
    assert decide_retraining(BAD.tail(50), None, MONITORING).retrain


def test_no_forecast_at_all_decides_nothing() -> None:
    decision = decide_retraining(BAD.head(0), None, MONITORING)
    assert not decision.retrain
    assert decision.session is None
    assert decision.reason.startswith("No decision")


@pytest.mark.parametrize(("elapsed", "retrain"), [(0, False), (19, False), (20, True), (30, True)])
def test_a_breach_waits_for_the_cooldown_counted_in_sessions(elapsed: int, retrain: bool) -> None:
    last = previous_session(NEWEST, elapsed) if elapsed else NEWEST
    decision = decide_retraining(BAD, last, MONITORING)
    assert decision.retrain is retrain
    assert len(decision.breaches) == 2
    if not retrain:
        assert decision.reason.startswith(f"Cooling down: {elapsed} sessions since")


def test_a_retraining_newer_than_the_scores_cools_down() -> None:
    assert not decide_retraining(BAD, date(2013, 3, 8), MONITORING).retrain


def test_without_a_cooldown_a_breach_is_acted_on_at_once() -> None:
    eager = MONITORING.model_copy(update={"cooldown_sessions": 0})
    assert decide_retraining(BAD, NEWEST, eager).retrain


def test_an_undefined_score_never_reads_as_healthy() -> None:
    no_move = scored([0.0] * len(DAYS))
    decision = decide_retraining(no_move, None, MONITORING)
    assert decision.retrain
    assert decision.breaches == ("direction accuracy nan does not reach 0.4",)
    frozen = score_rows(GOOD.assign(actual=100.0, predicted=100.0))
    decision = decide_retraining(frozen, None, MONITORING)
    assert decision.retrain
    assert "relative MAE nan is not within 1.1" in decision.breaches


@given(st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    mixed = scored([0.9, -0.5] * (len(DAYS) // 2) + [0.9] * (len(DAYS) % 2))
    shuffled = mixed.sample(frac=1, random_state=seed)
    first = decide_retraining(mixed, None, MONITORING)
    second = decide_retraining(shuffled, None, MONITORING)
    assert (first.retrain, first.breaches) == (second.retrain, second.breaches)


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_a_longer_cooldown_never_retrains_sooner(cooldown: int, elapsed: int) -> None:
    last = previous_session(NEWEST, elapsed + 1)
    longer = MONITORING.model_copy(update={"cooldown_sessions": cooldown + 1})
    if decide_retraining(BAD, last, longer).retrain:
        shorter = MONITORING.model_copy(update={"cooldown_sessions": cooldown})
        assert decide_retraining(BAD, last, shorter).retrain
