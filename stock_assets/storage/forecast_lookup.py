"""Find issued forecasts by name, by issue or at random, each with the link that wrote it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Select,
    func,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import distinct_on

from stock_assets.core.errors import StockAssetsError
from stock_assets.storage.forecast_issues import names_of_today
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record import key_columns
from stock_assets.storage.roles import of_production
from stock_assets.storage.tables import (
    forecast_issues,
    model_promotions,
    predictions,
    production_history,
)

_HISTORY = HISTORIES[predictions]
_KEY = key_columns(_HISTORY)


def find_forecasts(engine: Engine, name: str) -> list[dict[str, Any]]:
    """Read the forecasts with a name.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    name : str
        ``AS_OF/TICKER`` or ``AS_OF/TICKER/HORIZON``: of the model that forecast last. The number
        of an issue names all its forecasts. A ticker may be named as it was as of the session.

    Returns
    -------
    list of rows
        The columns of the history of ``predictions``, by ticker, session and horizon. Tickers have
        the names of today.

    Raises
    ------
    StockAssetsError
        The name has another shape, or there is no such forecast.
    """
    with engine.connect() as connection:
        found = _issued(connection, int(name)) if name.isdecimal() else _named(connection, name)
        if found:
            return found
        stored = predictions.c
        newest = connection.execute(
            select(stored.issue, stored.as_of_session, stored.ticker)
            .order_by(stored.as_of_session.desc(), stored.ticker)
            .limit(1)
        ).one_or_none()
    if newest is None:
        raise _no_forecasts()
    raise StockAssetsError(
        f"there is no forecast {name}",
        f"Name one that is, such as {newest.as_of_session}/{newest.ticker} of issue {newest.issue}",
    )


def sample_forecasts(engine: Engine, size: int) -> list[dict[str, Any]]:
    """Draw forecasts at random from the newest issue of each; all if there are fewer.

    Raises
    ------
    StockAssetsError
        There are none.
    """
    newest = _newest().subquery()
    drawn = select(newest).order_by(func.random()).limit(size)
    with engine.connect() as connection:
        found = [dict(row) for row in connection.execute(drawn).mappings()]
    if not found:
        raise _no_forecasts()
    return sorted(found, key=lambda row: (row["as_of_session"], row["ticker"]))


def _no_forecasts() -> StockAssetsError:
    return StockAssetsError("no forecast is stored yet", "Forecast: stock-assets predict")


def issue_facts(engine: Engine, issue: int | None) -> RowMapping | None:
    """Read the row of an issue; None if it was not recorded."""
    query = select(forecast_issues).where(forecast_issues.c.issue == issue)
    with engine.connect() as connection:
        return connection.execute(query).mappings().one_or_none()


def model_of(engine: Engine, mlflow_run_id: str) -> str | None:
    """Return the registered model that an MLflow run has trained; None if it is not on record."""
    changes, decisions = production_history.c, model_promotions.c
    names = union_all(
        select(changes.model_name).where(changes.mlflow_run_id == mlflow_run_id),
        select(decisions.model_name).where(decisions.mlflow_run_id == mlflow_run_id),
    )
    with engine.connect() as connection:
        return connection.scalars(names.limit(1)).one_or_none()


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
    key = [_HISTORY.c[name] for name in _KEY]
    newest = (
        select(_HISTORY)
        .where(*conditions)
        .ext(distinct_on(*key))
        .order_by(*key, _HISTORY.c.link.desc())
        .subquery()
    )
    return select(newest).where(~newest.c.removed)


def _named(connection: Connection, name: str) -> list[dict[str, Any]]:
    """Read the newest state of the forecasts of the model that forecast last."""
    as_of, given, horizon = _parse(name)
    history = _HISTORY.c
    requested = pd.DataFrame({"ticker": [given], "as_of_session": [pd.Timestamp(as_of)]})
    ticker = names_of_today(connection, requested).iloc[0]
    wanted = [history.as_of_session == as_of, history.ticker == ticker, of_production(history)]
    if horizon is not None:
        wanted.append(history.horizon == horizon)
    found = connection.execute(_newest(*wanted)).mappings().all()
    last = max(((row["predicted_at"], row["model_version"]) for row in found), default=None)
    return [dict(row) for row in found if (row["predicted_at"], row["model_version"]) == last]


def _issued(connection: Connection, issue: int) -> list[dict[str, Any]]:
    """Read the first state of each forecast of an issue, under the name of today.

    A rename writes every forecast of a ticker again, under the new name.
    """
    query = select(_HISTORY).where(_HISTORY.c.issue == issue, ~_HISTORY.c.removed)
    rows = connection.execute(query.order_by(_HISTORY.c.link)).mappings().all()
    if not rows:
        return []
    named = pd.DataFrame(
        {
            "ticker": [row["ticker"] for row in rows],
            "as_of_session": pd.to_datetime([row["as_of_session"] for row in rows]),
        }
    )
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row, ticker in zip(rows, names_of_today(connection, named), strict=True):
        today = dict(row) | {"ticker": ticker}
        first.setdefault(tuple(today[name] for name in _KEY), today)
    order = ("ticker", "as_of_session", "horizon")
    return sorted(first.values(), key=lambda row: tuple(row[name] for name in order))
