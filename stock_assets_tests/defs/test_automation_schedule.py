"""The schedule: the evening of every session, in New York, and on no other day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from itertools import islice
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.config import Params
from stock_assets.definitions import build_definitions
from stock_assets.defs.automation import daily_cron, daily_schedule
from stock_assets.defs.partitions import trading_days
from stock_assets.market import calendar
from stock_assets_tests.defs.running import params

LIVE = params(prices={"source": "yahoo"})
REPOSITORY = build_definitions(LIVE).get_repository_def()


def tick(moment: datetime, chosen: Params = LIVE) -> dg.RunRequest | dg.SkipReason:
    """The result of the schedule at a moment."""
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=moment, repository_def=REPOSITORY
        )
        data = daily_schedule(chosen).evaluate_tick(context)
    if data.run_requests:
        (request,) = data.run_requests
        return request
    return dg.SkipReason(data.skip_message)


def evening(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, 18, 30, tzinfo=ZoneInfo(calendar.TIMEZONE))


def ticks(start: datetime, count: int, chosen: Params = LIVE) -> list[datetime]:
    schedule = daily_schedule(chosen)
    moments = schedule_execution_time_iterator(
        start.timestamp(), schedule.cron_schedule, schedule.execution_timezone
    )
    later = (moment for moment in moments if moment > start)
    return list(islice(later, count))


def test_it_ticks_on_weekday_evenings() -> None:
    found = ticks(evening(2013, 1, 3), 4)
    assert [moment.strftime("%a %Y-%m-%d %H:%M") for moment in found] == [
        "Fri 2013-01-04 18:30",
        "Mon 2013-01-07 18:30",
        "Tue 2013-01-08 18:30",
        "Wed 2013-01-09 18:30",
    ]


def test_summer_time_does_not_move_it() -> None:
    for start, hours in ((evening(2013, 3, 7), (23, 22)), (evening(2013, 10, 31), (22, 23))):
        found = ticks(start, 2)
        assert [moment.strftime("%H:%M") for moment in found] == ["18:30", "18:30"]
        assert tuple(moment.astimezone(UTC).hour for moment in found) == hours


def test_the_time_of_day_is_a_parameter() -> None:
    assert daily_cron(time(18, 30)) == "30 18 * * 1-5"
    assert daily_cron(time(7, 5)) == "5 7 * * 1-5"
    early = params(schedule={"daily_at": time(17, 5)})
    assert ticks(evening(2013, 1, 3), 1, early)[0].strftime("%a %H:%M") == "Fri 17:05"


@pytest.mark.parametrize("day", [(2013, 1, 4), (2013, 1, 7), (2012, 11, 23), (2012, 12, 31)])
def test_a_session_is_run_once_under_its_own_key(day: tuple[int, int, int]) -> None:
    request = tick(evening(*day))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == request.run_key == date(*day).isoformat()
    assert trading_days(LIVE).has_partition_key(request.partition_key)
    assert request.tags["dagster/partition"] == request.partition_key


@pytest.mark.parametrize(
    "day",
    [
        (2013, 1, 21),  # Martin Luther King day
        (2012, 12, 25),
        (2012, 10, 29),  # hurricane
        (2013, 1, 5),  # Saturday
        (2013, 1, 6),
    ],
)
def test_a_day_without_a_session_is_skipped(day: tuple[int, int, int]) -> None:
    answer = tick(evening(*day))
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message == f"{date(*day)} is not a session of the exchange"


def test_a_late_tick_is_for_the_same_session() -> None:
    request = tick(datetime(2013, 1, 4, 23, 59, tzinfo=ZoneInfo(calendar.TIMEZONE)))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2013-01-04"


def test_a_session_after_the_source_ends_is_skipped() -> None:
    sample = params(prices={"source": "sample"})
    assert isinstance(tick(evening(2013, 3, 1), sample), dg.RunRequest)
    answer = tick(evening(2013, 3, 4), sample)
    assert isinstance(answer, dg.SkipReason)
    assert "source sample has no prices after 2013-03-01" in answer.skip_message
    assert "prices.source in params.yaml" in answer.skip_message


@settings(max_examples=25)
@given(st.dates(date(2003, 1, 1), date(2030, 12, 31)))
def test_there_is_a_request_exactly_on_sessions(day: date) -> None:
    answer = tick(evening(day.year, day.month, day.day))
    assert isinstance(answer, dg.RunRequest) == calendar.is_session(day)
