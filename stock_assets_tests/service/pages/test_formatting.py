"""Formats of numbers and dates."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pandas as pd
import pytest

from stock_assets.service.pages import formatting


def test_numbers_have_fixed_decimals() -> None:
    assert formatting.price(1234.5) == "1,234.50"
    assert formatting.number(1.0075) == "1.008"
    assert formatting.count(12154) == "12,154"
    assert formatting.percent(0.01279) == "1.28%"


def test_change_has_a_sign_unless_it_rounds_to_zero() -> None:
    assert formatting.change(0.0007) == "+0.07%"
    assert formatting.change(-0.0007) == "−0.07%"
    assert formatting.change(-0.00001) == formatting.change(0.0) == "0.00%"


def test_direction_is_that_of_the_rounded_change() -> None:
    assert [formatting.direction(value) for value in (0.001, -0.001, 0.00001, None)] == [
        "up",
        "down",
        "level",
        "level",
    ]


@pytest.mark.parametrize("unknown", [None, float("nan"), pd.NaT])
def test_unknown_value_is_a_dash(unknown: object) -> None:
    for function in formatting.FILTERS.values():
        if function not in (formatting.direction, formatting.sessions):
            assert function(unknown) == formatting.UNKNOWN


def test_dates_and_times() -> None:
    assert formatting.day(date(2013, 3, 1)) == "2013-03-01"
    assert formatting.long_day(date(2013, 3, 1)) == "Friday 1 March 2013"
    assert formatting.moment(datetime(2013, 3, 1, 23, 30, tzinfo=UTC)) == "2013-03-01 23:30 UTC"
    assert formatting.sessions(1) == "1 session"
    assert formatting.sessions(20) == "20 sessions"
