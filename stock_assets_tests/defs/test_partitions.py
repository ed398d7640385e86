"""Partitions: a key for every session and for no other day; a dataset id says its as-of session."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.defs.partitions import (
    NEW_YORK,
    dataset_as_of,
    key_session,
    new_dataset_id,
    session_key,
    trading_days,
)
from stock_assets.market import calendar

SESSIONS = calendar.sessions(date(2000, 3, 1), date(2013, 3, 1))


def keys_at(year: int, month: int, day: int, hour: int = 9) -> list[str]:
    """Keys there are at a moment in New York."""
    now = datetime(year, month, day, hour, tzinfo=ZoneInfo(NEW_YORK))
    return list(trading_days.get_partition_keys(current_time=now))


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
    assert not trading_days.has_partition_key(closed)


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
    assert key_session(session_key(session)) == session
    window = trading_days.time_window_for_partition_key(session_key(session))
    assert window.start.date() == session


@given(st.sampled_from(SESSIONS[1:]))
def test_one_partition_back_is_the_previous_session(session: date) -> None:
    mapping = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
    mapped = mapping.get_upstream_mapped_partitions_result_for_partitions(
        trading_days.subset_with_partition_keys([session_key(session)]),
        trading_days,
        trading_days,
        datetime(2013, 3, 1, 9, tzinfo=ZoneInfo(NEW_YORK)),
    )
    keys = list(mapped.partitions_subset.get_partition_keys())
    assert keys == [session_key(calendar.previous_session(session))]


@given(
    st.sampled_from(SESSIONS),
    st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    st.integers(-12, 12),
)
def test_a_dataset_id_is_the_as_of_session_and_the_utc_time_of_the_request(
    as_of: date, requested: datetime, offset: int
) -> None:
    utc = requested.replace(tzinfo=UTC)
    elsewhere = utc.astimezone(ZoneInfo(f"Etc/GMT{offset:+d}"))
    dataset_id = new_dataset_id(as_of, elsewhere)
    assert dataset_id == f"{as_of:%Y%m%d}_{utc:%H%M%S}"
    assert dataset_as_of(dataset_id) == as_of


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "20121231",
        "2012-12-31",
        "20121231_",
        "20121231-183000",
        "20121331_183000",
        "20121231_250000",
        "20121231_1830001",
        "2012123_183000",  # a digit short, the third of December to a lenient reader
        "20121231_18300",
        " 20121231_183000",
        "20121231_183000\n",
        "20121231_183000; DROP TABLE predictions",
    ],
)
def test_another_text_is_not_a_dataset_id(text: str) -> None:
    with pytest.raises(StockAssetsError, match=r"is not a dataset id\. Write YYYYMMDD_HHMMSS"):
        dataset_as_of(text)


@given(st.dates(date(2000, 1, 1), date(2030, 1, 1)))
def test_the_as_of_day_must_be_a_session(day: date) -> None:
    dataset_id = f"{datetime.combine(day, time(12)):%Y%m%d_%H%M%S}"
    if calendar.is_session(day):
        assert dataset_as_of(dataset_id) == day
    else:
        with pytest.raises(StockAssetsError, match="is not a trading session"):
            dataset_as_of(dataset_id)


def test_ids_sort_by_as_of_session() -> None:
    later = datetime(2013, 1, 1, 0, 0, 1, tzinfo=UTC)
    earlier = later + timedelta(hours=23)
    first, second = new_dataset_id(SESSIONS[5], earlier), new_dataset_id(SESSIONS[6], later)
    assert first < second


def test_a_name_that_is_taken_gives_way_to_the_next_second() -> None:
    requested = datetime(2013, 1, 2, 3, 4, 59, tzinfo=UTC)
    name = new_dataset_id(date(2012, 12, 31), requested)
    assert new_dataset_id(date(2012, 12, 31), requested, [name]) == "20121231_030500"
