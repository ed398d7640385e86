"""Whether the service lives, can answer, and has something new to tell."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, timedelta
from datetime import time as clock
from typing import Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from stock_assets.config import Params
from stock_assets.market import calendar
from stock_assets.service.app_state import TAKES_NOTHING, AppState, AppStateDependency
from stock_assets.service.problems import RETRY_SECONDS
from stock_assets.storage.database import newest_revision
from stock_assets.storage.serving.freshness import read_freshness, schema_revision

router = APIRouter(tags=["health"], dependencies=TAKES_NOTHING)

# How long after its time the daily job may still be at work.
_AT_WORK = timedelta(hours=1)


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether requests can be answered, and what is missing if not."""

    ready: bool
    database: bool
    schema_current: bool
    data: bool


class Health(BaseModel):
    """How new the data are.

    ``expected_session`` is the newest session that the daily job should have stored by now; it is
    null where prices come from a source that gets nothing new. ``late`` counts the sessions that
    are missing up to it. ``newest_forecast`` is an as-of session, ``newest_score`` a session whose
    forecasts were compared with what happened, ``newest_decision`` one after which it was decided
    whether to retrain. ``quarantined_bars`` broke a check and are kept back still.
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


@router.get("/healthz", response_model=Alive)
async def healthz() -> Alive:
    """Say that the process lives, whatever else is wrong."""
    return Alive()


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Not ready"}},
)
def readyz(served: AppStateDependency, response: Response) -> Readiness:
    """Say whether the database answers, has the tables of this version, and holds prices."""
    found = gather_readiness(served)
    if not found.ready:
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return found


@router.get("/api/v1/health", response_model=Health)
def health(served: AppStateDependency, response: Response) -> Health:
    """Say how new the data are, and how new they should be."""
    response.headers["Cache-Control"] = "no-store"
    return gather_health(served, calendar.utc_now())


def gather_readiness(served: AppState) -> Readiness:
    """Look at the database; nothing about it is an error."""
    try:
        current = schema_revision(served.engine) == newest_revision()
        data = current and read_freshness(served.engine).newest_session is not None
    except SQLAlchemyError:
        return Readiness(ready=False, database=False, schema_current=False, data=False)
    return Readiness(ready=current and data, database=True, schema_current=current, data=data)


def gather_health(served: AppState, now: datetime) -> Health:
    """Compare what is stored with what should be at a moment, which has its time zone."""
    found, expected = read_freshness(served.engine), session_due(served.params, now)
    late = 0 if found.newest_session is None else sessions_late(found.newest_session, expected)
    return Health(
        status="empty" if found.newest_session is None else "late" if late else "fresh",
        now=now,
        source=served.params.prices.source,
        schema_revision=schema_revision(served.engine),
        expected_session=expected,
        late=late,
        **asdict(found),
    )


def session_due(params: Params, now: datetime) -> date | None:
    """Give the newest session that should be stored at a moment; None of the sample prices.

    They are a fixed history, of which nothing new comes.
    """
    if params.prices.source == "sample":
        return None
    return expected_session(now, params.schedule.daily_at)


def sessions_late(newest: date, due: date | None) -> int:
    """Count the sessions after `newest` up to the one that is due."""
    return 0 if due is None else max(0, len(calendar.sessions(newest, due)) - 1)


def expected_session(now: datetime, daily_at: clock) -> date:
    """Give the newest session that the daily job should have stored at a moment.

    Parameters
    ----------
    now : datetime
        With its time zone.
    daily_at : time
        When the job runs on every day with a session, in New York; it may take an hour.
    """
    zone = ZoneInfo(calendar.TIMEZONE)
    latest = (now - _AT_WORK).astimezone(zone)
    day = calendar.last_session_on_or_before(latest.date())
    ran = datetime.combine(day, daily_at, tzinfo=zone)
    if ran > latest:
        ran = datetime.combine(calendar.previous_session(day), daily_at, tzinfo=zone)
    return calendar.last_closed_session(ran)
