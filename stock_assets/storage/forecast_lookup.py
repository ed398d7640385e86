"""Find issued forecasts by name, by issue or at random, each with the link that wrote it."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Engine, RowMapping, Select, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from stock_assets.core.errors import StockAssetsError
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record import key_columns
from stock_assets.storage.tables import forecast_issues, predictions

_HISTORY = HISTORIES[predictions]


def find_forecasts(engine: Engine, name: str) -> list[dict[str, Any]]:
    """Read the forecasts with a name.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    name : str
        ``AS_OF/TICKER`` or ``AS_OF/TICKER/HORIZON``: of the model that forecast last. Or the number
        of an issue: all its forecasts.

    Returns
    -------
    list of rows
        The columns of the history of ``predictions``, by ticker, session and horizon.

    Raises
    ------
    StockAssetsError
        The name has another shape, or there is no such forecast.
    """
    history = _HISTORY.c
    if name.isdecimal():
        found = _read(engine, _issued(history.issue == int(name)))
    else:
        as_of, ticker, horizon = _parse(name)
        wanted = [history.as_of_session == as_of, history.ticker == ticker]
        if horizon is not None:
            wanted.append(history.horizon == horizon)
        found = _read(engine, _newest(*wanted))
        last = max(((row.predicted_at, row.model_version) for row in found), default=None)
        found = [row for row in found if (row.predicted_at, row.model_version) == last]
    if not found:
        raise StockAssetsError(
            f"there is no forecast {name}", "See the newest: stock-assets predict, or the dashboard"
        )
    return [dict(row._mapping) for row in found]


def sample_forecasts(engine: Engine, size: int) -> list[dict[str, Any]]:
    """Draw forecasts at random from the newest issue of each; all if there are fewer.

    Raises
    ------
    StockAssetsError
        There are none.
    """
    newest = _newest().subquery()
    drawn = select(newest).order_by(func.random()).limit(size)
    found = _read(engine, drawn)
    if not found:
        raise StockAssetsError("no forecast is stored yet", "Forecast: stock-assets predict")
    return sorted(
        (dict(row._mapping) for row in found),
        key=lambda row: (row["as_of_session"], row["ticker"]),
    )


def issue_facts(engine: Engine, issue: int | None) -> RowMapping | None:
    """Read the row of an issue; None if it was not recorded."""
    query = select(forecast_issues).where(forecast_issues.c.issue == issue)
    with engine.connect() as connection:
        return connection.execute(query).mappings().one_or_none()


def _parse(name: str) -> tuple[date, str, int | None]:
    session, _, rest = name.partition("/")
    ticker, _, horizon = rest.partition("/")
    try:
        return date.fromisoformat(session), ticker, int(horizon) if horizon else None
    except ValueError:
        raise StockAssetsError(
            f"{name!r} names no forecast",
            "Write AS_OF/TICKER, AS_OF/TICKER/HORIZON or the number of an issue, such as "
            "2013-02-28/AAPL",
        ) from None


def _newest(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Select the newest state of each forecast that has not left its table."""
    key = [_HISTORY.c[name] for name in key_columns(_HISTORY)]
    newest = (
        select(_HISTORY)
        .where(*conditions)
        .ext(distinct_on(*key))
        .order_by(*key, _HISTORY.c.link.desc())
        .subquery()
    )
    return select(newest).where(~newest.c.removed)


def _issued(condition: ColumnElement[bool]) -> Select[Any]:
    """Select the first state of each forecast of an issue."""
    key = [_HISTORY.c[name] for name in key_columns(_HISTORY)]
    return (
        select(_HISTORY)
        .where(condition, ~_HISTORY.c.removed)
        .ext(distinct_on(*key))
        .order_by(*key, _HISTORY.c.link)
    )


def _read(engine: Engine, query: Select[Any]) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(query))
