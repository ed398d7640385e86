"""The calendar equals exchange_calendars."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import exchange_calendars
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.market import calendar

days = st.dates(date(1991, 1, 1), date(2034, 12, 31))
counts = st.integers(1, 200)


@pytest.fixture(scope="module")
def reference() -> exchange_calendars.ExchangeCalendar:
    first, last = calendar.SPAN
    return exchange_calendars.get_calendar("XNYS", start=first, end=last)


def test_every_session_of_the_horizon_equals_exchange_calendars(reference):
    expected = [stamp.date() for stamp in reference.sessions]
    assert calendar.sessions(*calendar.SPAN) == expected


def test_every_closing_time_of_the_horizon_equals_exchange_calendars(reference):
    for stamp, close in reference.closes.items():
        assert calendar.close_time(stamp.date()) == close.to_pydatetime()


def test_the_committed_file_is_what_the_generator_writes():
    file = Path(calendar.__file__).with_name("xnys_closures.json")
    assert json.loads(file.read_text(encoding="utf-8")) == calendar.frozen_content()


def test_sessions_and_closures_share_the_weekdays_between_them():
    first, last = date(2012, 10, 1), date(2013, 1, 31)
    span = (first + timedelta(n) for n in range((last - first).days + 1))
    weekdays = [day for day in span if day.weekday() < 5]
    opened, closed = calendar.sessions(first, last), calendar.closures(first, last)
    assert sorted(opened + closed) == weekdays
    # Hurricane Sandy, Thanksgiving, Christmas, New Year, Martin Luther King Day.
    assert closed == [
        date(2012, 10, 29),
        date(2012, 10, 30),
        date(2012, 11, 22),
        date(2012, 12, 25),
        date(2013, 1, 1),
        date(2013, 1, 21),
    ]


@given(days, days)
def test_both_ends_of_a_range_are_included(one, other):
    first, last = sorted((one, other))
    found = calendar.sessions(first, last)
    assert all(first <= day <= last for day in found)
    assert (first in found) == calendar.is_session(first)
    assert (last in found) == calendar.is_session(last)


def test_a_range_that_ends_before_it_starts_is_empty():
    assert calendar.sessions(date(2013, 2, 1), date(2013, 1, 2)) == []


@given(days, counts)
def test_going_forward_and_back_returns_to_the_same_session(day, count):
    session = calendar.first_session_on_or_after(day)
    assert calendar.previous_session(calendar.next_session(session, count), count) == session


@given(days, counts)
def test_many_steps_are_one_step_many_times(day, count):
    walked = day
    for _ in range(count):
        walked = calendar.next_session(walked)
    assert calendar.next_session(day, count) == walked


@given(days, counts)
def test_the_next_sessions_are_each_step_on_the_way(day, count):
    steps = [calendar.next_session(day, number) for number in range(1, count + 1)]
    assert calendar.next_sessions(day, count) == steps


def test_the_next_sessions_leave_out_a_weekend_and_a_holiday():
    found = calendar.next_sessions(date(2013, 1, 17), 3)  # a Thursday; Monday is a holiday
    assert found == [date(2013, 1, 18), date(2013, 1, 22), date(2013, 1, 23)]


@given(days)
def test_neighbours_are_strict_and_nothing_lies_between_them(day):
    before, after = calendar.previous_session(day), calendar.next_session(day)
    between = calendar.sessions(before, after)[1:-1]
    assert before < day < after
    assert between == ([day] if calendar.is_session(day) else [])


@given(days)
def test_a_session_is_its_own_nearest_session(day):
    assume(calendar.is_session(day))
    assert calendar.last_session_on_or_before(day) == day
    assert calendar.first_session_on_or_after(day) == day
    assert calendar.require_session(day) == day


def test_a_friday_is_followed_by_monday_and_a_holiday_is_skipped():
    assert calendar.next_session(date(2013, 2, 15)) == date(2013, 2, 19)  # Presidents' Day
    assert calendar.previous_session(date(2013, 2, 11)) == date(2013, 2, 8)


def test_a_day_without_a_session_names_the_nearest_ones():
    with pytest.raises(StockAssetsError) as caught:
        calendar.require_session(date(2013, 1, 1))
    assert caught.value.problem == (
        "2013-01-01 is not a trading session of XNYS (the nearest are 2012-12-31 and 2013-01-02)"
    )


@pytest.mark.parametrize("day", [date(1989, 12, 29), date(2036, 1, 2)])
@pytest.mark.parametrize(
    "ask", [calendar.is_session, calendar.next_session, calendar.require_session]
)
def test_a_day_outside_the_horizon_is_an_error_with_a_remedy(ask, day):
    with pytest.raises(StockAssetsError, match=r"covers 1990-01-01 to 2035-12-31.*Widen SPAN"):
        ask(day)


def test_a_walk_off_the_end_of_the_horizon_is_refused():
    with pytest.raises(StockAssetsError, match="Widen SPAN"):
        calendar.next_session(calendar.SPAN[1])
    with pytest.raises(StockAssetsError, match="Widen SPAN"):
        calendar.previous_session(date(1990, 1, 3), count=2)


def test_a_count_below_one_is_a_programming_error():
    with pytest.raises(ValueError, match="at least 1"):
        calendar.next_session(date(2013, 1, 2), count=0)


def test_a_moment_is_not_a_day():
    with pytest.raises(TypeError):
        calendar.is_session(datetime(2013, 1, 2, 16))


def test_closing_times_know_the_half_days_and_daylight_saving():
    assert calendar.close_time(date(2012, 7, 3)).isoformat() == "2012-07-03T13:00:00-04:00"
    assert calendar.close_time(date(2013, 1, 2)).isoformat() == "2013-01-02T16:00:00-05:00"


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        ("2013-02-28T16:14:59-05:00", "2013-02-27"),
        ("2013-02-28T16:15:00-05:00", "2013-02-28"),
        ("2013-03-01T00:30:00+00:00", "2013-02-28"),  # still the evening before in New York
        ("2013-03-03T12:00:00-05:00", "2013-03-01"),  # a Sunday
        ("2012-07-03T13:15:00-04:00", "2012-07-03"),  # a half day
        ("2012-07-04T12:00:00-04:00", "2012-07-03"),  # a holiday
    ],
)
def test_a_session_counts_a_quarter_of_an_hour_after_its_close(moment, session):
    closed = calendar.last_closed_session(datetime.fromisoformat(moment))
    assert closed == date.fromisoformat(session)


def test_importing_the_calendar_imports_nothing_heavy():
    script = (
        "import sys; from stock_assets.market import calendar; "
        "print(*{'pandas', 'numpy', 'exchange_calendars'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
