"""Stored bars and corporate actions: as traded, in bulk, every later change a revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pandas as pd
from sqlalchemy import Connection, Engine, delete, func, select, text

from stock_assets.market.actions import ACTION_COLUMNS, tidy_actions
from stock_assets.market.bars import BAR_COLUMNS, tidy
from stock_assets.market.reconciliation import StoredHistory
from stock_assets.market.sources.base import Fetch
from stock_assets.storage.database import (
    Merge,
    copy_out,
    merge,
    merge_staged,
    stage,
    staged_name,
)
from stock_assets.storage.quarantine import release
from stock_assets.storage.tables import (
    corporate_actions,
    instruments,
    price_revisions,
    raw_stock_data,
)

_TRADED = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class StoredPrices:
    """What storing a fetch did: rows of bars, rows of actions, and the number of revised values."""

    bars: Merge = field(default_factory=Merge)
    actions: Merge = field(default_factory=Merge)
    revisions: int = 0


def store_prices(
    engine: Engine,
    fetch: Fetch,
    starts: Mapping[str, date],
    source: str,
    dagster_run_id: str | None = None,
) -> StoredPrices:
    """Store bars and actions as traded, in one transaction.

    New bars are inserted, equal ones left alone, and changed ones updated. Actions are replaced
    between a ticker's first and last bar in the fetch, for a source that no longer shows an action
    has withdrawn it; then all actions take effect in all bars that they reach. Every value of a bar
    that was there before and is another now is kept in ``price_revisions``. Storing the same fetch
    again changes nothing, and what is stored in the end does not depend on the order of fetches.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    fetch : Fetch
        What a source gave; its bars keep the rules of :mod:`stock_assets.market.checks`.
    starts : mapping of str to date
        Since when each ticker was asked for.
    source : str
        Name of the price source.
    dagster_run_id : str, optional
        The run that fetched them.
    """
    origin = {"source": source, "dagster_run_id": dagster_run_id}
    bars = fetch.bars.assign(session=fetch.bars["session"].dt.date)
    actions = fetch.actions.assign(ex_date=fetch.actions["ex_date"].dt.date)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE raw_stock_data IN SHARE ROW EXCLUSIVE MODE"))
        traded = bars[["ticker", "session", *_TRADED]].assign(**origin)
        staged = stage(connection, raw_stock_data, traded)
        _note_reach(connection, staged)
        revised = _record_changed_bars(connection, staged, dagster_run_id)
        rows = merge_staged(connection, raw_stock_data, staged, list(traded.columns))
        release(connection, staged)
        merged_actions = _replace_actions(connection, actions.assign(**origin))
        revised += take_effect(connection, dagster_run_id)
        _note_instruments(connection, fetch.currencies, starts, origin)
    return StoredPrices(rows, merged_actions, revised)


def _note_reach(connection: Connection, staged: str) -> None:
    """Keep, until the transaction ends, each ticker's first and last bar among those staged."""
    connection.execute(
        text(
            "CREATE TEMPORARY TABLE reach ON COMMIT DROP AS "
            "SELECT ticker, min(session) AS first, max(session) AS last "
            f"FROM {staged} GROUP BY ticker"
        )
    )


def _record_changed_bars(connection: Connection, staged: str, run_id: str | None) -> int:
    """Note every stored price and volume that is about to change."""
    fields = ", ".join(f"('{name}', t.{name}, s.{name})" for name in _TRADED)
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


def _replace_actions(connection: Connection, actions: pd.DataFrame) -> Merge:
    """Make the actions within the reach of the bars equal to those given, and add those beyond."""
    merged = merge(connection, corporate_actions, actions)
    withdrawn = connection.execute(
        text(
            "DELETE FROM corporate_actions a USING reach r WHERE a.ticker = r.ticker "
            "AND a.ex_date BETWEEN r.first AND r.last AND NOT EXISTS ("
            f"SELECT 1 FROM {staged_name(corporate_actions)} s WHERE s.ticker = a.ticker "
            "AND s.ex_date = a.ex_date AND s.kind = a.kind)"
        )
    ).rowcount
    connection.execute(
        text(
            "INSERT INTO reach SELECT ticker, min(ex_date), max(ex_date) "
            f"FROM {staged_name(corporate_actions)} GROUP BY ticker"
        )
    )
    return Merge(merged.inserted, merged.updated, withdrawn)


_EFFECTS = """
CREATE TEMPORARY TABLE effects ON COMMIT DROP AS
WITH touched AS (SELECT ticker, min(first) AS first FROM reach GROUP BY ticker),
in_force AS (
  SELECT a.ticker, b.session,
    sum(a.value) FILTER (WHERE a.kind = 'dividend') AS dividends,
    product(a.value) FILTER (WHERE a.kind = 'split') AS stock_splits
  FROM touched JOIN corporate_actions a USING (ticker)
  CROSS JOIN LATERAL (
    SELECT session FROM raw_stock_data
    WHERE ticker = a.ticker AND session >= a.ex_date ORDER BY session LIMIT 1) b
  WHERE b.session >= touched.first AND EXISTS (
    SELECT FROM raw_stock_data f WHERE f.ticker = a.ticker AND f.session <= a.ex_date)
  GROUP BY a.ticker, b.session)
SELECT b.ticker, b.session, b.fetched_at = now() AS is_new,
  b.dividends AS old_dividends, coalesce(e.dividends, 0) AS dividends,
  b.stock_splits AS old_stock_splits, coalesce(e.stock_splits, 0) AS stock_splits
FROM touched JOIN raw_stock_data b ON b.ticker = touched.ticker AND b.session >= touched.first
LEFT JOIN in_force e ON e.ticker = b.ticker AND e.session = b.session
WHERE (b.dividends, b.stock_splits)
  IS DISTINCT FROM (coalesce(e.dividends, 0), coalesce(e.stock_splits, 0))
"""
_APPLY_EFFECTS = """
UPDATE raw_stock_data b SET dividends = e.dividends, stock_splits = e.stock_splits
FROM effects e WHERE b.ticker = e.ticker AND b.session = e.session
"""
_RECORD_EFFECTS = """
INSERT INTO price_revisions (ticker, session, field, old_value, new_value, dagster_run_id)
SELECT ticker, session, field, old_value, new_value, :run_id FROM effects
CROSS JOIN LATERAL (VALUES
  ('dividends', old_dividends, dividends), ('stock_splits', old_stock_splits, stock_splits)
) AS v(field, old_value, new_value)
WHERE NOT is_new AND old_value <> new_value
"""


def take_effect(connection: Connection, run_id: str | None) -> int:
    """Let actions take effect with the first bar from their ex-date on.

    Parameters
    ----------
    connection : Connection
        In the transaction that changed bars or actions, with a temporary table ``reach``: rows of a
        ``ticker`` and the ``first`` session from which on something may have changed for it.
    run_id : str or None
        The run that this belongs to.

    Returns
    -------
    int
        Values of bars that are others than before, each of them recorded as a revision.
    """
    connection.execute(text("ANALYZE reach"))
    connection.execute(text(_EFFECTS))
    connection.execute(text(_APPLY_EFFECTS))
    return connection.execute(text(_RECORD_EFFECTS), {"run_id": run_id}).rowcount


def _note_instruments(
    connection: Connection,
    currencies: Mapping[str, str],
    starts: Mapping[str, date],
    origin: Mapping[str, str | None],
) -> None:
    """Keep each ticker's currency and the earliest day that it was asked for."""
    query = select(instruments.c.ticker, instruments.c.asked_from)
    known = {row.ticker: row.asked_from for row in connection.execute(query)}
    rows = [
        {
            "ticker": ticker,
            "currency": currency,
            "asked_from": min(starts[ticker], known.get(ticker, starts[ticker])),
            **origin,
        }
        for ticker, currency in currencies.items()
    ]
    if rows:
        merge(connection, instruments, pd.DataFrame(rows))


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


def stored_histories(engine: Engine) -> dict[str, StoredHistory]:
    """Tell what is stored of every ticker that a source ever gave."""
    spans = (
        select(
            raw_stock_data.c.ticker,
            func.min(raw_stock_data.c.session).label("first"),
            func.max(raw_stock_data.c.session).label("last"),
        )
        .group_by(raw_stock_data.c.ticker)
        .subquery()
    )
    query = select(
        instruments.c.ticker,
        spans.c.first,
        spans.c.last,
        instruments.c.asked_from,
        instruments.c.currency,
    ).outerjoin(spans, spans.c.ticker == instruments.c.ticker)
    with engine.connect() as connection:
        return {row[0]: StoredHistory(*row[1:]) for row in connection.execute(query)}


def forget_what_was_asked(engine: Engine, tickers: Sequence[str]) -> list[str]:
    """Let tickers be as new to the next ingestion, which then takes their whole history as it is.

    Stored bars stay; what the source says otherwise now becomes a revision.

    Returns
    -------
    list of str
        Those of the tickers that had been asked for.
    """
    forgotten = (
        delete(instruments)
        .where(instruments.c.ticker.in_(list(tickers)))
        .returning(instruments.c.ticker)
    )
    with engine.begin() as connection:
        return sorted(connection.scalars(forgotten))


def read_revisions(engine: Engine, dagster_run_id: str) -> pd.DataFrame:
    """List the values of bars that a run revised, with the old and the new one, in their order."""
    names = ("ticker", "session", "field", "old_value", "new_value", "revised_at")
    query = (
        select(*(price_revisions.c[name] for name in names))
        .where(price_revisions.c.dagster_run_id == dagster_run_id)
        .order_by(price_revisions.c.id)
    )
    with engine.connect() as connection:
        return copy_out(connection, query, dates=["session"])


def read_actions(engine: Engine, tickers: Sequence[str] | None = None) -> pd.DataFrame:
    """Corporate actions as traded, of `tickers` or of everyone, in force or not yet."""
    query = select(*(corporate_actions.c[name] for name in ACTION_COLUMNS))
    if tickers is not None:
        query = query.where(corporate_actions.c.ticker.in_(list(tickers)))
    with engine.connect() as connection:
        return tidy_actions(copy_out(connection, query, dates=["ex_date"]))


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
