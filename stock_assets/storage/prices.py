"""Stored bars: as traded, in bulk, every later change recorded as a revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd
from sqlalchemy import Connection, Engine, func, select, text

from stock_assets.market.bars import BAR_COLUMNS, tidy
from stock_assets.storage.database import Merge, copy_out, merge, stage
from stock_assets.storage.tables import price_revisions, raw_stock_data

_VALUES = tuple(name for name in BAR_COLUMNS if name not in ("ticker", "session"))


@dataclass(frozen=True)
class StoredBars:
    """What storing a frame of bars did: row counts and the number of revised values."""

    rows: Merge
    revisions: int


def store_bars(
    engine: Engine, bars: pd.DataFrame, source: str, dagster_run_id: str | None = None
) -> StoredBars:
    """Store as-traded bars in one transaction.

    New bars are inserted, equal ones left alone, and changed ones updated with the old values kept
    in ``price_revisions``; storing the same bars again changes nothing.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    bars : DataFrame
        Bars frame (see :mod:`stock_assets.market.bars`), as traded.
    source : str
        Name of the price source.
    dagster_run_id : str, optional
        The run that fetched them.
    """
    if bars.empty:
        return StoredBars(Merge(), 0)
    frame = bars.assign(session=bars["session"].dt.date)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE raw_stock_data IN SHARE ROW EXCLUSIVE MODE"))
        revisions = _record_revisions(connection, frame, dagster_run_id)
        rows = merge(
            connection, raw_stock_data, frame.assign(source=source, dagster_run_id=dagster_run_id)
        )
    return StoredBars(rows, revisions)


def _record_revisions(connection: Connection, frame: pd.DataFrame, run_id: str | None) -> int:
    """Note every stored value that `frame` is about to change."""
    staged = stage(connection, raw_stock_data, frame)
    fields = ", ".join(f"('{name}', t.{name}, s.{name})" for name in _VALUES)
    return connection.execute(
        text(
            f"INSERT INTO {price_revisions.name} "
            "(ticker, session, field, old_value, new_value, dagster_run_id) "
            "SELECT t.ticker, t.session, v.field, v.old_value, v.new_value, :run_id "
            f"FROM {staged} s JOIN {raw_stock_data.name} t USING (ticker, session) "
            f"CROSS JOIN LATERAL (VALUES {fields}) AS v(field, old_value, new_value) "
            "WHERE v.old_value IS DISTINCT FROM v.new_value"
        ),
        {"run_id": run_id},
    ).rowcount


def read_bars(
    engine: Engine,
    first: date,
    last: date,
    tickers: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Bars of the sessions `first` to `last`, as traded, of `tickers` or of everyone."""
    columns = (raw_stock_data.c[name] for name in BAR_COLUMNS)
    query = select(*columns).where(raw_stock_data.c.session.between(first, last))
    if tickers is not None:
        query = query.where(raw_stock_data.c.ticker.in_(list(tickers)))
    with engine.connect() as connection:
        return tidy(copy_out(connection, query, dates=["session"]))


@dataclass(frozen=True)
class PriceCoverage:
    """How much of the price history is stored."""

    bars: int
    tickers: int
    first_session: date | None
    last_session: date | None


def price_coverage(engine: Engine) -> PriceCoverage:
    """Count what is stored."""
    table = raw_stock_data.c
    query = select(
        func.count(),
        func.count(table.ticker.distinct()),
        func.min(table.session),
        func.max(table.session),
    )
    with engine.connect() as connection:
        return PriceCoverage(*connection.execute(query).one())
