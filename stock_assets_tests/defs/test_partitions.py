"""Partitions: a key for every session and for no other day."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.config import Params
from stock_assets.defs.partitions import (
    forecasts_reaching,
    session_key,
    trading_days,
)
from stock_assets.market import calendar

DAYS = trading_days(Params())
SESSIONS = calendar.sessions(date(2000, 3, 1), date(2013, 3, 1))


def keys_at(year: int, month: int, day: int, hour: int = 9) -> list[str]:
    """The keys at a moment in New York."""
    now = datetime(year, month, day, hour, tzinfo=ZoneInfo(calendar.TIMEZONE))
    return list(DAYS.get_partition_keys(current_time=now))


def test_there_is_a_key_for_every_session_and_for_no_other_day() -> None:
    assert keys_at(2013, 3, 1) == [session_key(session) for session in SESSIONS]


@pytest.mark.parametrize(
    "closed",
    [
        "2001-09-11",  # attacks
        "2001-09-14",
        "2004-06-11",  # mourning
        "2012-10-29",  # hurricane
        "2012-10-30",
        "2012-12-25",
        "2013-01-01",
        "2013-01-21",  # Martin Luther King day
        "2013-01-05",  # Saturday
        "2013-01-06",
    ],
)
def test_a_day_without_a_session_has_no_key(closed: str) -> None:
    assert not DAYS.has_partition_key(closed)


@pytest.mark.parametrize(
    ("moment", "newest"),
    [
        ((2013, 1, 4, 0), "2013-01-04"),  # today's session exists from midnight on
        ((2013, 1, 4, 23), "2013-01-04"),
        ((2013, 1, 5), "2013-01-07"),  # between sessions the next one is there already
        ((2013, 1, 6), "2013-01-07"),
        ((2013, 1, 7), "2013-01-07"),
        ((2013, 1, 18), "2013-01-18"),
        ((2013, 1, 21), "2013-01-22"),
    ],
)
def test_todays_session_is_the_newest_key(moment: tuple[int, ...], newest: str) -> None:
    assert keys_at(*moment)[-1] == newest


@given(st.sampled_from(SESSIONS))
def test_a_key_is_its_session(session: date) -> None:
    window = DAYS.time_window_for_partition_key(session_key(session))
    assert window.start.date() == session


@given(st.sampled_from(SESSIONS[1:]))
def test_one_partition_back_is_the_previous_session(session: date) -> None:
    mapped = forecasts_reaching(Params()).get_upstream_mapped_partitions_result_for_partitions(
        DAYS.subset_with_partition_keys([session_key(session)]),
        DAYS,
        DAYS,
        datetime(2013, 3, 1, 9, tzinfo=ZoneInfo(calendar.TIMEZONE)),
    )
    keys = list(mapped.partitions_subset.get_partition_keys())
    assert keys == [session_key(calendar.previous_session(session))]
