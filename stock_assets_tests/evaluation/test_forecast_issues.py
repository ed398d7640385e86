"""How forecasts are issued: live before the open of their target session."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.forecast_issues import Issued, count_backfilled, issued_as, issued_text
from stock_assets.market.calendar import close_time, open_time, previous_session, sessions

DAYS = sessions(date(2012, 1, 3), date(2026, 12, 31))


@given(st.sampled_from(DAYS), st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_a_forecast_is_live_until_its_target_session_opens(day: date, late: timedelta) -> None:
    opened = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=9, minutes=30)
    opened += timedelta(hours=4 if open_time(day).dst() else 5)  # New York to UTC
    expected = Issued.LIVE if late < timedelta(0) else Issued.BACKFILLED
    assert issued_as(opened + late, day) is expected


def test_the_daily_run_after_a_close_is_live() -> None:
    for day in DAYS[1::97]:
        assert issued_as(close_time(previous_session(day)), day) is Issued.LIVE
        assert issued_as(close_time(day), day) is Issued.BACKFILLED


def test_a_day_without_a_session_is_refused() -> None:
    with pytest.raises(StockAssetsError, match="not a trading session"):
        issued_as(datetime.now(UTC), date(2013, 1, 1))


@pytest.mark.parametrize(
    ("issued", "backfilled", "text"),
    [
        (["live", "live"], 0, "issued live"),
        (["backfilled"], 1, "backfilled"),
        (["live", "backfilled", "live"], 1, "2 issued live, 1 backfilled"),
        ([None, "live"], 1, "1 not known whether live, 1 issued live"),
    ],
)
def test_forecasts_of_unknown_issue_count_as_backfilled(
    issued: list[str | None], backfilled: int, text: str
) -> None:
    rows = pd.DataFrame({"issued": issued}, dtype=object)
    assert count_backfilled(rows) == backfilled
    assert issued_text(rows["issued"]) == text
