"""Dataset ids: the as-of session and the UTC time of the request."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.datasets.ids import dataset_as_of, new_dataset_id
from stock_assets.market import calendar

SESSIONS = calendar.sessions(date(2000, 3, 1), date(2013, 3, 1))


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
def test_other_texts_are_not_dataset_ids(text: str) -> None:
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


def test_a_taken_name_moves_to_the_next_second() -> None:
    requested = datetime(2013, 1, 2, 3, 4, 59, tzinfo=UTC)
    name = new_dataset_id(date(2012, 12, 31), requested)
    assert new_dataset_id(date(2012, 12, 31), requested, [name]) == "20121231_030500"
