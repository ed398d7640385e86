"""Operations: freshness, missing bars, checks, drift, decisions and runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import pandas as pd
from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from stock_assets.market import calendar
from stock_assets.service.app_state import NO_PARAMS, AppState, StateDep
from stock_assets.service.health import session_due, sessions_late
from stock_assets.service.pages.model_status import find_production
from stock_assets.service.pages.rendering import render, ticker_address
from stock_assets.storage.serving.checks import newest_checks
from stock_assets.storage.serving.decisions import list_retrainings
from stock_assets.storage.serving.drift import newest_drift
from stock_assets.storage.serving.freshness import StoredFreshness, read_freshness
from stock_assets.storage.serving.pages import (
    applied_renames,
    bars_per_session,
    bars_per_ticker,
    forecasts_per_session,
    newest_quarantined,
    newest_revisions,
    runs_since,
    scores_per_session,
)
from stock_assets.storage.serving.paging import records
from stock_assets.storage.serving.tickers import list_tickers

SESSIONS = 20
"""Newest sessions in the table of sessions and in the search for missing bars."""

SHOWN = 50
"""Rows of the other tables."""

_ALL = 100_000

router = APIRouter()


@dataclass(frozen=True)
class Freshness:
    """The newest session of each stage of the daily loop, and the one that is due.

    Attributes
    ----------
    due : date or None
        Newest session that the daily job should have stored; None for the sample prices.
    stages : list of (str, date or None, int or None)
        Name, newest session, and how many sessions it is behind the one that is due, or behind
        the newest prices where none is.
    """

    due: date | None
    stages: list[tuple[str, date | None, int | None]]


class Gap(NamedTuple):
    """A ticker with missing bars."""

    ticker: str
    address: str
    last_session: date | None
    missing: int | None


@router.get("/operations", dependencies=NO_PARAMS)
def operations(state: StateDep) -> HTMLResponse:
    """Render the page, or the first steps when no prices are stored."""
    engine = state.engine
    stored = read_freshness(engine)
    newest = stored.newest_session
    if newest is None:
        return render("operations_empty.html", state, page="operations")
    first = calendar.previous_session(newest, SESSIONS - 1)
    return render(
        "operations.html",
        state,
        page="operations",
        production=find_production(state),
        freshness=find_freshness(state, stored, newest),
        daily=find_daily(state, first, newest),
        gaps=find_gaps(state, first, newest),
        checks=newest_checks(engine),
        drift=find_drift(state),
        first=first,
        newest=newest,
        universe=len(state.params.prices.tickers),
        source=state.params.prices.source,
        quarantined=records(newest_quarantined(engine, SHOWN)),
        revised=records(newest_revisions(engine, SHOWN)),
        renames=records(applied_renames(engine, SHOWN)),
        retrainings=list_retrainings(engine, None, None, None, SHOWN),
        runs=records(runs_since(engine, first, SHOWN)),
        shown=SHOWN,
        sessions_shown=SESSIONS,
    )


def find_freshness(state: AppState, stored: StoredFreshness, newest: date) -> Freshness:
    """Compare the newest session of each stage with the one that is due."""
    due = session_due(state.params, calendar.utc_now())
    stages = {
        "Prices stored": newest,
        "Forecasts made": stored.newest_forecast,
        "Forecasts scored": stored.newest_score,
    }
    compared = [
        (stage, session, None if session is None else sessions_late(session, due or newest))
        for stage, session in stages.items()
    ]
    return Freshness(due, compared)


def find_daily(state: AppState, first: date, newest: date) -> list[dict[str, Any]]:
    """Count the stored, forecast and scored rows of each session, the newest first."""
    sessions = pd.DataFrame({"session": calendar.sessions(first, newest)[::-1]}, dtype=object)
    found = (
        bars_per_session(state.engine, first),
        forecasts_per_session(state.engine, first),
        scores_per_session(state.engine, first),
    )
    for frame in found:
        sessions = sessions.merge(frame, on="session", how="left")
    return records(sessions)


def find_gaps(state: AppState, first: date, newest: date) -> list[Gap]:
    """List the tickers of the universe with bars missing since `first`."""
    tickers = list_tickers(state.engine, state.params.prices.tickers, _ALL)
    stored = bars_per_ticker(state.engine, first).set_index("ticker")["bars"].to_dict()
    sessions = calendar.sessions(first, newest)
    gaps = []
    for row in tickers:
        if not row["in_universe"]:
            continue
        name, start = row["ticker"], row["first_session"]
        if start is None:
            gaps.append(Gap(name, ticker_address(name), None, None))
            continue
        due = len([session for session in sessions if session >= start])
        if missing := due - stored.get(name, 0):
            gaps.append(Gap(name, ticker_address(name), row["last_session"], missing))
    return gaps


def find_drift(state: AppState) -> list[dict[str, Any]]:
    """Read the newest drift of the version in production."""
    return [
        {**row, "drifted": row["psi"] > row["baseline_p95"]}
        for row in newest_drift(state.engine, state.model_name)
    ]
