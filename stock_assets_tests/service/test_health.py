"""Alive, ready, and how new: three questions with three answers."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from stock_assets.market import calendar
from stock_assets.service.health import expected_session, gather_health, gather_readiness
from stock_assets.storage.database import newest_revision
from stock_assets_tests.conftest import LAST_INGESTED, REPLAYED
from stock_assets_tests.service.conftest import begin_own, served

NEW_YORK = ZoneInfo("America/New_York")
DAILY = time(18, 30)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2013, 3, 1, 18, 0), date(2013, 2, 28)),  # Friday: the job has not begun
        (datetime(2013, 3, 1, 19, 0), date(2013, 2, 28)),  # it may be at work
        (datetime(2013, 3, 1, 19, 30), date(2013, 3, 1)),
        (datetime(2013, 3, 3, 12, 0), date(2013, 3, 1)),  # Sunday
        (datetime(2013, 3, 29, 23, 0), date(2013, 3, 28)),  # Good Friday
        (datetime(2013, 1, 1, 0, 30), date(2012, 12, 31)),
    ],
)
def test_a_session_is_expected_once_the_daily_job_had_its_hour(now: datetime, expected: date):
    assert expected_session(now.replace(tzinfo=NEW_YORK), DAILY) == expected


def test_a_job_in_the_morning_brings_the_session_before():
    now = datetime(2013, 3, 1, 12, 0, tzinfo=NEW_YORK)
    assert expected_session(now, time(8, 0)) == date(2013, 2, 28)
    weekend = datetime(2013, 3, 3, 12, 0, tzinfo=NEW_YORK)
    assert expected_session(weekend, time(8, 0)) == date(2013, 2, 28)  # until Monday morning


@given(
    st.datetimes(datetime(2000, 1, 10), datetime(2030, 1, 1), timezones=st.just(NEW_YORK)),
    st.times(),
    st.integers(0, 10_000),
)
def test_what_is_expected_has_closed_and_never_goes_back(now: datetime, daily: time, minutes: int):
    first = expected_session(now, daily)
    later = expected_session(now + timedelta(minutes=minutes), daily)
    assert calendar.is_session(first)
    assert first <= calendar.last_closed_session(now)
    assert later >= first


def store_session(engine: Engine, session: date) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO raw_stock_data (ticker, session, open, high, low, close, volume, "
                "source) VALUES ('IBM', :session, 1, 1, 1, 1, 1, 'csv')"
            ),
            {"session": session},
        )


def test_sessions_that_are_missing_are_counted(engine: Engine):
    now = datetime(2013, 3, 5, 20, 0, tzinfo=NEW_YORK)
    empty = gather_health(served(engine, "yahoo"), now)
    assert (empty.status, empty.newest_session, empty.late) == ("empty", None, 0)
    for session, late, status in (
        (date(2013, 2, 28), 3, "late"),
        (date(2013, 3, 4), 1, "late"),
        (date(2013, 3, 5), 0, "fresh"),
        (date(2013, 3, 6), 0, "fresh"),
    ):
        store_session(engine, session)
        found = gather_health(served(engine, "yahoo"), now)
        assert (found.status, found.late) == (status, late)
        assert (found.newest_session, found.expected_session) == (session, date(2013, 3, 5))


def test_the_sample_is_never_late(engine: Engine):
    store_session(engine, date(2013, 3, 1))
    found = gather_health(served(engine, "sample"), calendar.utc_now())
    assert (found.status, found.late, found.expected_session) == ("fresh", 0, None)


def test_it_is_ready_with_these_tables_and_with_prices(engine: Engine):
    here = served(engine, "sample")
    assert gather_readiness(here).model_dump() == {
        **{"ready": False, "database": True, "schema_current": True, "data": False}
    }
    store_session(engine, date(2013, 3, 1))
    assert gather_readiness(here).ready
    try:
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        assert gather_readiness(here).model_dump() == {
            **{"ready": False, "database": True, "schema_current": False, "data": False}
        }
    finally:
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE alembic_version SET version_num = :v"), {"v": newest_revision()}
            )


@pytest.mark.slow
def test_a_service_without_prices_lives_and_is_not_ready(engine: Engine, tmp_path: Path):
    with begin_own(engine, tmp_path) as service, service.client() as client:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["database"] is True
        assert client.get("/tickers").json() == {"status": "success", "tickers": []}


@pytest.mark.slow
def test_the_loop_is_seen(client: httpx.Client):
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    health = client.get("/api/v1/health").json()
    assert health["newest_session"] == LAST_INGESTED.isoformat()
    assert health["newest_forecast"] == REPLAYED[1].isoformat()
    assert health["newest_target"] == calendar.next_session(REPLAYED[1]).isoformat()
    assert health["newest_score"] == REPLAYED[1].isoformat()
    assert health["schema_revision"] == newest_revision()
    assert health["status"] == "fresh"
