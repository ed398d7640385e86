"""Forecasts that must not be stored are found, with their problem."""

from __future__ import annotations

import math
from datetime import date

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.evaluation.forecast_checks import invalid_forecasts
from stock_assets.market import calendar

DAYS = calendar.sessions(date(2013, 1, 2), date(2013, 1, 31))
NOT_A_PRICE = "a price is not finite and positive"
OUTSIDE = "the price lies outside its interval"
LATE = "the target is not the session of the horizon"
SEEN = "the model has seen later sessions"


def forecasts(days: list[date] = DAYS) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "as_of_session": pd.to_datetime(days),
            "target_session": pd.to_datetime([calendar.next_session(day) for day in days]),
            "ticker": "AAA",
            "horizon": 1,
            "last_close": 100.0,
            "predicted_price": 101.0,
            "lower_price": 99.0,
            "upper_price": 103.0,
        }
    )


def problems(frame: pd.DataFrame) -> dict[int, str]:
    found = invalid_forecasts(frame)
    return dict(zip(found.index, found["problem"], strict=True))


def test_sound_forecasts_have_no_problem() -> None:
    assert problems(forecasts()) == {}
    assert problems(forecasts().assign(lower_price=101.0, upper_price=101.0)) == {}


@pytest.mark.parametrize("column", ["last_close", "predicted_price", "lower_price", "upper_price"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_an_invalid_price_is_found(column: str, value: float) -> None:
    frame = forecasts()
    frame.loc[4, column] = value
    sound = column == "lower_price" and value == 0.0
    assert problems(frame) == ({} if sound else {4: NOT_A_PRICE})


@pytest.mark.parametrize(
    "change", [{"predicted_price": 98.9}, {"predicted_price": 103.1}, {"upper_price": 98.0}]
)
def test_a_price_outside_its_interval_is_found(change: dict[str, float]) -> None:
    frame = forecasts()
    frame.loc[2, list(change)] = list(change.values())
    assert problems(frame) == {2: OUTSIDE}


@pytest.mark.parametrize("shift", [-1, 0, 2, 5])
def test_a_target_that_is_not_the_next_session_is_found(shift: int) -> None:
    frame = forecasts()
    row = 5
    wrong = DAYS[row + shift] if shift >= 0 else DAYS[row - 1]
    frame.loc[row, "target_session"] = pd.Timestamp(wrong)
    assert problems(frame) == {row: LATE}


def test_a_target_further_ahead_is_that_of_its_horizon() -> None:
    """The 18th is a Friday, the 21st a holiday."""
    ahead = pd.DataFrame(
        {
            "horizon": [1, 2, 3],
            "target_session": pd.to_datetime(["2013-01-22", "2013-01-23", "2013-01-24"]),
        }
    )
    frame = forecasts([date(2013, 1, 18)] * 3).assign(**ahead)
    assert problems(frame) == {}
    assert problems(frame.assign(horizon=[1, 3, 2])) == {1: LATE, 2: LATE}


def test_over_a_weekend_and_a_holiday_the_next_session_is_the_next_one() -> None:
    days = [date(2013, 1, 18), date(2012, 12, 31), date(2012, 10, 26)]
    targets = pd.to_datetime(["2013-01-22", "2013-01-02", "2012-10-31"])
    assert problems(forecasts(days).assign(target_session=targets)) == {}
    calendar_days = pd.to_datetime(["2013-01-19", "2013-01-01", "2012-10-27"])
    found = problems(forecasts(days).assign(target_session=calendar_days))
    assert set(found.values()) == {LATE}


def test_a_model_that_has_seen_later_sessions_is_found() -> None:
    model_as_of = pd.to_datetime([DAYS[0]] * len(DAYS))
    assert problems(forecasts().assign(model_as_of=model_as_of)) == {}
    model_as_of = pd.to_datetime([DAYS[2]] * len(DAYS))
    assert problems(forecasts().assign(model_as_of=model_as_of)) == {0: SEEN, 1: SEEN}


def test_no_forecast_has_no_problem() -> None:
    found = invalid_forecasts(forecasts().iloc[:0])
    assert found.empty
    assert "problem" in found.columns


@given(st.sets(st.integers(0, len(DAYS) - 1)))
def test_exactly_the_offending_rows_are_returned(rows: set[int]) -> None:
    frame = forecasts()
    frame.loc[sorted(rows), "predicted_price"] = -1.0
    assert set(problems(frame)) == rows
