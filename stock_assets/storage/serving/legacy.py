"""Rows for the endpoints of the former system."""

from __future__ import annotations

from datetime import date

import pandas as pd
from sqlalchemy import Engine, RowMapping, column, select, table

from stock_assets.market.bars import BAR_COLUMNS, tidy
from stock_assets.storage.database import copy_out
from stock_assets.storage.tables import instruments, raw_stock_data

_LATEST = table(
    "latest_predictions",
    *(
        column(name)
        for name in (
            *("ticker", "horizon", "as_of_session", "target_session"),
            *("predicted_price", "mlflow_run_id"),
        )
    ),
)


def next_session_forecasts(engine: Engine, ticker: str | None = None) -> list[RowMapping]:
    """Read the newest forecast one session ahead of each ticker, or of one, by ticker."""
    query = select(_LATEST).where(_LATEST.c.horizon == 1).order_by(_LATEST.c.ticker)
    if ticker is not None:
        query = query.where(_LATEST.c.ticker == ticker)
    with engine.connect() as connection:
        return list(connection.execute(query).mappings())


def known_tickers(engine: Engine) -> list[str]:
    """List every ticker that was ever fetched, in alphabetical order."""
    query = select(instruments.c.ticker).order_by(instruments.c.ticker)
    with engine.connect() as connection:
        return list(connection.scalars(query))


def is_known(engine: Engine, ticker: str) -> bool:
    """Check whether a ticker was ever fetched."""
    query = select(instruments.c.ticker).where(instruments.c.ticker == ticker)
    with engine.connect() as connection:
        return connection.scalar(query) is not None


def newest_bars(engine: Engine, ticker: str, count: int, last: date | None) -> pd.DataFrame:
    """Read the newest `count` bars of a ticker up to `last`, as traded, the oldest first."""
    bars = raw_stock_data.c
    query = select(*(bars[name] for name in BAR_COLUMNS)).where(bars.ticker == ticker)
    if last is not None:
        query = query.where(bars.session <= last)
    with engine.connect() as connection:
        found = copy_out(connection, query.order_by(bars.session.desc()).limit(count))
    return tidy(found)
