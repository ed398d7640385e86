"""Every issue of a forecast, and its inputs."""

from __future__ import annotations

from datetime import date

import pandas as pd
from sqlalchemy import Engine, func, select

from stock_assets.storage.forecast_issues import names_of_today
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.serving.paging import Position, Row, read_frame, read_rows, records
from stock_assets.storage.tables import (
    forecast_issues,
    predictions,
    record_links,
    ticker_renames,
)

ISSUE_ORDER = ("horizon", "model_version", "predicted_at")
"""Order of the issues of a ticker's forecasts as of a session, the oldest first."""

_HISTORY = HISTORIES[predictions]
_FORECAST = list(ISSUE_ORDER[:2])
_FACTS = ("reason", "started_by", "known_at", "params_digest", "torch", "device")


def find_issue(engine: Engine, issue: int) -> Row | None:
    """Read the inputs of an issue; None if there is no such issue."""
    query = select(forecast_issues).where(forecast_issues.c.issue == issue)
    return next(iter(read_rows(engine, query)), None)


def newest_issue(engine: Engine) -> int | None:
    """Return the number of the newest issue; None before the first."""
    with engine.connect() as connection:
        newest: int | None = connection.scalar(select(func.max(forecast_issues.c.issue)))
        return newest


def list_issues(
    engine: Engine,
    as_of_session: date,
    ticker: str,
    horizon: int | None = None,
    model_version: int | None = None,
    size: int | None = None,
    after: Position | None = None,
) -> list[Row]:
    """List every issue of a ticker's forecasts as of a session, see :data:`ISSUE_ORDER`.

    Returns
    -------
    list of rows
        The columns of ``predictions``, those of ``forecast_issues`` but the parameters and the
        build environment, and ``withdrawn_at``: when a later run no longer made the forecast. The
        ticker is today's name.
    """
    history = _HISTORY.c
    links, facts = record_links.c, forecast_issues.c
    query = (
        select(_HISTORY, links.written_at, *(facts[name] for name in _FACTS))
        .join(record_links, links.link == history.link)
        .outerjoin(forecast_issues, facts.issue == history.issue)
        .where(
            history.as_of_session == as_of_session,
            history.ticker.in_(_names(engine, as_of_session, ticker)),
        )
        .order_by(*(history[name] for name in _FORECAST), history.link, history.removed)
    )
    if horizon is not None:
        query = query.where(history.horizon == horizon)
    if model_version is not None:
        query = query.where(history.model_version == model_version)
    issues = _issues(read_frame(engine, query)).assign(ticker=ticker)
    rows = [row for row in records(issues) if after is None or _position(row) > after]
    return rows[:size]


def _issues(states: pd.DataFrame) -> pd.DataFrame:
    """Return the first state of each issue, and when the forecast left its table after the last."""
    # A rename removes a row and adds one in the same link.
    states = states.drop_duplicates([*_FORECAST, "link"])
    following = states.groupby(_FORECAST).shift(-1)
    withdrawn = following["written_at"].where(following["removed"] == True)  # noqa: E712
    issues = states.assign(withdrawn_at=withdrawn)[~states["removed"].astype(bool)]
    ends = issues.groupby(list(ISSUE_ORDER))["withdrawn_at"].transform("last")
    return issues.assign(withdrawn_at=ends).drop_duplicates(list(ISSUE_ORDER))


def _names(engine: Engine, as_of_session: date, ticker: str) -> list[str]:
    """Return the names that rows of a ticker had before the renames applied since."""
    with engine.connect() as connection:
        former = connection.scalars(select(ticker_renames.c.old_ticker).distinct())
        names = pd.DataFrame({"ticker": sorted({ticker, *former})})
        names["as_of_session"] = pd.Timestamp(as_of_session)
        found: list[str] = names["ticker"][names_of_today(connection, names) == ticker].tolist()
    return found


def _position(row: Row) -> Position:
    return tuple(row[name] for name in ISSUE_ORDER)
