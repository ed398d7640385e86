"""Health: liveness, readiness and freshness of the data."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, timedelta
from datetime import time as clock
from typing import Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError, TimeoutError

from stock_assets.config import Params
from stock_assets.market import calendar
from stock_assets.service.app_state import NO_PARAMS, AppState, StateDep
from stock_assets.service.problems import RETRY_SECONDS
from stock_assets.storage.database import newest_revision
from stock_assets.storage.serving.freshness import read_freshness, schema_revision
from stock_assets.storage.serving.production import find_version

router = APIRouter(tags=["health"], dependencies=NO_PARAMS)

# The daily job may run for this long.
_JOB_DURATION = timedelta(hours=1)


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether the service can answer requests, and what is missing."""

    ready: bool
    database: bool
    schema_current: bool
    data: bool


class Health(BaseModel):
    """Freshness of the data.

    ``expected_session`` is the newest session that the daily job should have stored; null for the
    sample prices, which are a fixed history. ``late`` counts the sessions missing up to it.
    ``newest_forecast`` is an as-of session, ``newest_target`` the furthest session forecast,
    ``newest_score`` a scored session, ``newest_decision`` the session of a retraining decision.
    ``model_version`` is in force; 0 is persistence.
    """

    status: Literal["fresh", "late", "empty"]
    now: datetime
    source: str
    schema_revision: str | None
    expected_session: date | None
    newest_session: date | None
    late: int
    fetched_at: datetime | None
    newest_forecast: date | None
    newest_target: date | None
    newest_score: date | None
    newest_decision: date | None
    quarantined_bars: int
    model_version: int


@router.get("/healthz")
async def healthz() -> Alive:
    """Check that the process is alive."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready"}})
def readyz(state: StateDep, response: Response) -> Readiness:
    """Check that the database is available, has the current schema and holds prices."""
    found = check_readiness(state)
    if not found.ready:
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return found


@router.get("/api/v1/health")
def health(state: StateDep, response: Response) -> Health:
    """Compare the newest stored data with what is expected by now."""
    response.headers["Cache-Control"] = "no-store"
    return check_health(state, calendar.utc_now())


def check_readiness(state: AppState) -> Readiness:
    """Check the database; a failure is a result, not an error.

    Raises
    ------
    sqlalchemy.exc.TimeoutError
        No connection is free: the service is busy, which says nothing of the database.
    """
    try:
        current = schema_revision(state.engine) == newest_revision()
        data = current and read_freshness(state.engine).newest_session is not None
    except TimeoutError:
        raise
    except SQLAlchemyError:
        return Readiness(ready=False, database=False, schema_current=False, data=False)
    return Readiness(ready=current and data, database=True, schema_current=current, data=data)


def check_health(state: AppState, now: datetime) -> Health:
    """Compare the stored data with what is expected at a moment, which has its time zone."""
    found, expected = read_freshness(state.engine), session_due(state.params, now)
    late = 0 if found.newest_session is None else sessions_late(found.newest_session, expected)
    return Health(
        status="empty" if found.newest_session is None else "late" if late else "fresh",
        now=now,
        source=state.params.prices.source,
        schema_revision=schema_revision(state.engine),
        expected_session=expected,
        late=late,
        model_version=find_version(state.engine, state.model_name),
        **asdict(found),
    )


def session_due(params: Params, now: datetime) -> date | None:
    """Return the newest session that should be stored; None for the fixed sample prices."""
    if params.prices.source == "sample":
        return None
    return expected_session(now, params.schedule.daily_at)


def sessions_late(newest: date, due: date | None) -> int:
    """Count the sessions after `newest` up to `due`."""
    return 0 if due is None else max(0, len(calendar.sessions(newest, due)) - 1)


def expected_session(now: datetime, daily_at: clock) -> date:
    """Return the newest session that the daily job should have stored.

    Parameters
    ----------
    now : datetime
        With its time zone.
    daily_at : time
        Start of the job on each session, in New York; the job may run for an hour.
    """
    zone = ZoneInfo(calendar.TIMEZONE)
    latest = (now - _JOB_DURATION).astimezone(zone)
    day = calendar.last_session_on_or_before(latest.date())
    started = datetime.combine(day, daily_at, tzinfo=zone)
    if started > latest:
        started = datetime.combine(calendar.previous_session(day), daily_at, tzinfo=zone)
    return calendar.last_closed_session(started)
