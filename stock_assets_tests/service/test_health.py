"""Liveness, readiness and freshness."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from stock_assets.market import calendar
from stock_assets.service.app import create_app
from stock_assets.service.health import check_health, check_readiness, expected_session
from stock_assets.storage.database import newest_revision
from stock_assets_tests.conftest import LAST_INGESTED, REPLAYED
from stock_assets_tests.service.conftest import send, state_for
from stock_assets_tests.tampering import tampering

NEW_YORK = ZoneInfo("America/New_York")
DAILY = time(18, 30)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2013, 3, 1, 18, 0), date(2013, 2, 28)),  # Friday, before the job
        (datetime(2013, 3, 1, 19, 0), date(2013, 2, 28)),  # the job may be running
        (datetime(2013, 3, 1, 19, 30), date(2013, 3, 1)),
        (datetime(2013, 3, 3, 12, 0), date(2013, 3, 1)),  # Sunday
        (datetime(2013, 3, 29, 23, 0), date(2013, 3, 28)),  # Good Friday
        (datetime(2013, 1, 1, 0, 30), date(2012, 12, 31)),
    ],
)
def test_session_is_expected_an_hour_after_the_job_starts(now: datetime, expected: date):
    assert expected_session(now.replace(tzinfo=NEW_YORK), DAILY) == expected


def test_morning_job_stores_the_previous_session():
    now = datetime(2013, 3, 1, 12, 0, tzinfo=NEW_YORK)
    assert expected_session(now, time(8, 0)) == date(2013, 2, 28)
    weekend = datetime(2013, 3, 3, 12, 0, tzinfo=NEW_YORK)
    assert expected_session(weekend, time(8, 0)) == date(2013, 2, 28)  # until Monday morning


@given(
    st.datetimes(datetime(2000, 1, 10), datetime(2030, 1, 1), timezones=st.just(NEW_YORK)),
    st.times(),
    st.integers(0, 10_000),
)
def test_expected_session_is_closed_and_never_decreases(now: datetime, daily: time, minutes: int):
    first = expected_session(now, daily)
    later = expected_session(now + timedelta(minutes=minutes), daily)
    assert calendar.is_session(first)
    assert first <= calendar.last_closed_session(now)
    assert later >= first


def store_session(engine: Engine, session: date) -> None:
    with tampering(engine) as connection:
        connection.execute(
            text(
                "INSERT INTO raw_stock_data (ticker, session, open, high, low, close, volume, "
                "source) VALUES ('IBM', :session, 1, 1, 1, 1, 1, 'csv')"
            ),
            {"session": session},
        )


def test_late_counts_missing_sessions(engine: Engine):
    now = datetime(2013, 3, 5, 20, 0, tzinfo=NEW_YORK)
    empty = check_health(state_for(engine, "yahoo"), now)
    assert (empty.status, empty.newest_session, empty.late) == ("empty", None, 0)
    for session, late, status in (
        (date(2013, 2, 28), 3, "late"),
        (date(2013, 3, 4), 1, "late"),
        (date(2013, 3, 5), 0, "fresh"),
        (date(2013, 3, 6), 0, "fresh"),
    ):
        store_session(engine, session)
        found = check_health(state_for(engine, "yahoo"), now)
        assert (found.status, found.late) == (status, late)
        assert (found.newest_session, found.expected_session) == (session, date(2013, 3, 5))


def test_sample_is_never_late(engine: Engine):
    store_session(engine, date(2013, 3, 1))
    found = check_health(state_for(engine, "sample"), calendar.utc_now())
    assert (found.status, found.late, found.expected_session) == ("fresh", 0, None)


def test_ready_requires_the_current_schema_and_prices(engine: Engine):
    state = state_for(engine)
    assert check_readiness(state).model_dump() == {
        **{"ready": False, "database": True, "schema_current": True, "data": False}
    }
    store_session(engine, date(2013, 3, 1))
    assert check_readiness(state).ready
    try:
        with tampering(engine) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        assert check_readiness(state).model_dump() == {
            **{"ready": False, "database": True, "schema_current": False, "data": False}
        }
    finally:
        with tampering(engine) as connection:
            connection.execute(
                text("UPDATE alembic_version SET version_num = :v"), {"v": newest_revision()}
            )


def test_service_without_prices_is_alive_and_not_ready(engine: Engine):
    app = create_app(state_for(engine))
    assert send(app, "/healthz").status_code == 200
    response = send(app, "/readyz")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["database"] is True
    assert send(app, "/tickers").json() == {"status": "success", "tickers": []}


def test_health_of_the_loop(client: httpx.Client):
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
