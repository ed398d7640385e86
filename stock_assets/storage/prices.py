"""Stored bars and corporate actions: as traded, in bulk, with a revision for every later change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import pandas as pd
from sqlalchemy import (
    Connection,
    Date,
    Engine,
    Text,
    and_,
    cast,
    column,
    delete,
    func,
    select,
    text,
    tuple_,
    values,
)

from stock_assets.market.bars import BAR_COLUMNS, TRADED_COLUMNS, tidy
from stock_assets.market.corporate_actions import ACTION_COLUMNS, KIND_OF, attach, tidy_actions
from stock_assets.market.reconciliation import StoredHistory
from stock_assets.market.sources.base import Fetch
from stock_assets.storage.database import (
    Merge,
    copy_in,
    copy_out,
    merge,
    merge_staged,
    stage,
)
from stock_assets.storage.known_prices import read_known_bars
from stock_assets.storage.quarantine import release
from stock_assets.storage.record import link_at, recording
from stock_assets.storage.tables import (
    corporate_actions,
    instruments,
    price_revisions,
    raw_stock_data,
)


@dataclass(frozen=True)
class StoredPrices:
    """What storing a fetch changed: rows of bars, rows of actions, and the revised values."""

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

    New bars are inserted and changed ones updated. Actions are replaced between a ticker's first
    and last bar in the fetch: one that the source no longer reports was withdrawn. Every changed
    value of a stored bar is kept in ``price_revisions``. Storing the same fetch again changes
    nothing, and the stored rows do not depend on the order of fetches.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    fetch : Fetch
        A source's answer; its bars keep the rules of :mod:`stock_assets.market.checks`.
    starts : mapping of str to date
        The first day of each ticker's request.
    source : str
        Name of the price source.
    dagster_run_id : str, optional
        The run that fetched them.
    """
    origin = {"source": source, "dagster_run_id": dagster_run_id}
    bars = fetch.bars.assign(session=fetch.bars["session"].dt.date)
    with recording(engine, dagster_run_id) as connection:
        traded = bars[["ticker", "session", *TRADED_COLUMNS]].assign(**origin)
        staged = stage(connection, raw_stock_data, traded)
        revised = _record_changed_bars(connection, staged, dagster_run_id)
        rows = merge_staged(connection, raw_stock_data, staged, list(traded.columns))
        release(connection, staged)
        actions = _replace_actions(connection, fetch, origin)
        revised += apply_actions(connection, _first_days(fetch), dagster_run_id)
        _merge_instruments(connection, fetch.currencies, starts, origin)
    return StoredPrices(rows, actions, revised)


def _record_changed_bars(connection: Connection, staged: str, run_id: str | None) -> int:
    """Record every stored price and volume that is about to change."""
    fields = ", ".join(f"('{name}', t.{name}, s.{name})" for name in TRADED_COLUMNS)
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


def _replace_actions(
    connection: Connection, fetch: Fetch, origin: Mapping[str, str | None]
) -> Merge:
    """Store the actions of a fetch; delete others between each ticker's first and last bar."""
    key = ["ticker", "ex_date", "kind"]
    span = fetch.bars.groupby("ticker")["session"].agg(["min", "max"])
    known = read_actions(connection, span.index.tolist())
    covered = known["ex_date"].between(
        known["ticker"].map(span["min"]), known["ticker"].map(span["max"])
    )
    given = pd.MultiIndex.from_frame(fetch.actions[key])
    withdrawn = known.loc[covered & ~pd.MultiIndex.from_frame(known[key]).isin(given), key]
    if not withdrawn.empty:
        columns = tuple_(*(corporate_actions.c[name] for name in key))
        rows = withdrawn.itertuples(index=False, name=None)
        connection.execute(delete(corporate_actions).where(columns.in_(list(rows))))
    actions = fetch.actions.assign(ex_date=fetch.actions["ex_date"].dt.date, **origin)
    merged = merge(connection, corporate_actions, actions)
    return Merge(merged.inserted, merged.updated, len(withdrawn))


def _first_days(fetch: Fetch) -> dict[str, date]:
    """Return the first day of each ticker in a fetch, of its bars and its actions."""
    days = pd.concat(
        [
            fetch.bars[["ticker", "session"]],
            fetch.actions[["ticker", "ex_date"]].set_axis(["ticker", "session"], axis="columns"),
        ]
    )
    first: dict[str, date] = days.groupby("ticker")["session"].min().dt.date.to_dict()
    return first


def apply_actions(
    connection: Connection, first_days: Mapping[str, date], run_id: str | None
) -> int:
    """Update the dividends and splits of stored bars to the actions in effect on them.

    When an action takes effect is decided by :func:`stock_assets.market.corporate_actions.attach`.

    Parameters
    ----------
    connection : Connection
        In the transaction that changed bars or actions.
    first_days : mapping of str to date
        Per ticker, the first day with a changed bar or action.
    run_id : str or None
        The run that changed them.

    Returns
    -------
    int
        Changed values of bars stored by earlier transactions; each is recorded as a revision.
    """
    if not first_days:
        return 0
    stored = _read_effects(connection, first_days)
    effective = attach(stored, read_actions(connection, list(first_days)))
    first = stored["ticker"].map(dict(first_days)).astype("datetime64[ns]")
    differs = (effective[list(KIND_OF)] != stored[list(KIND_OF)]).any(axis="columns")
    changed = (stored["session"] >= first) & differs
    if not changed.any():
        return 0
    key = ["ticker", "session"]
    columns = [*key, *KIND_OF]
    after = effective.loc[changed, columns].assign(session=stored["session"].dt.date)
    staged = stage(connection, raw_stock_data, after)
    assigned = ", ".join(f"{name} = s.{name}" for name in KIND_OF)
    connection.execute(
        text(
            f"UPDATE {raw_stock_data.name} b SET {assigned} FROM {staged} s "
            "WHERE b.ticker = s.ticker AND b.session = s.session"
        )
    )
    before = stored.loc[changed & ~stored["is_new"], columns]
    revised = before.melt(key, var_name="field", value_name="old_value").assign(
        new_value=after.loc[before.index].melt(key)["value"], dagster_run_id=run_id
    )
    revised = revised[revised["old_value"] != revised["new_value"]]
    copy_in(connection, price_revisions.name, revised.assign(session=revised["session"].dt.date))
    return len(revised)


def _read_effects(connection: Connection, first_days: Mapping[str, date]) -> pd.DataFrame:
    """Read dividends and splits of each ticker's bars from a day on, and of the bar before it.

    The column ``is_new`` is true for bars inserted by this transaction.
    """
    bars, earlier = raw_stock_data.c, raw_stock_data.alias().c
    rows = [(ticker, day.isoformat()) for ticker, day in first_days.items()]
    given = values(column("ticker", Text), column("day", Text), name="given", literal_binds=True)
    given = given.data(rows)
    first = cast(given.c.day, Date)
    before = (
        select(func.max(earlier.session))
        .where(earlier.ticker == given.c.ticker, earlier.session < first)
        .scalar_subquery()
    )
    # Materialized: the subquery runs once per ticker, and not once per bar.
    spans = select(given.c.ticker, func.coalesce(before, first).label("first")).cte("spans")
    spans = spans.prefix_with("MATERIALIZED")
    query = select(
        bars.ticker,
        bars.session,
        *(bars[name] for name in KIND_OF),
        (bars.fetched_at == func.record_time()).label("is_new"),
    ).join(spans, and_(bars.ticker == spans.c.ticker, bars.session >= spans.c.first))
    return copy_out(connection, query)


def _merge_instruments(
    connection: Connection,
    currencies: Mapping[str, str],
    starts: Mapping[str, date],
    origin: Mapping[str, str | None],
) -> None:
    """Store each ticker's currency and the earliest first day of its requests."""
    query = select(instruments.c.ticker, instruments.c.fetched_from)
    known = {row.ticker: row.fetched_from for row in connection.execute(query)}
    rows = [
        {
            "ticker": ticker,
            "currency": currency,
            "fetched_from": min(starts[ticker], known.get(ticker, starts[ticker])),
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
    known_at: datetime | None = None,
    *,
    renamed: bool = False,
) -> pd.DataFrame:
    """Read the bars of the sessions `first` to `last`, as traded, of `tickers` or of all.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    first, last : date
        Sessions, both included.
    tickers : sequence of str, optional
        All tickers if None.
    known_at : datetime, optional
        Read prices as known at this moment; None: as known now.
    renamed : bool
        With a moment: under present names, as if later renames had been applied by then.
    """
    if known_at is not None:
        link = link_at(engine, known_at)
        return read_known_bars(engine, first, last, tickers, link, renamed=renamed)
    columns = (raw_stock_data.c[name] for name in BAR_COLUMNS)
    query = select(*columns).where(raw_stock_data.c.session.between(first, last))
    if tickers is not None:
        query = query.where(raw_stock_data.c.ticker.in_(list(tickers)))
    with engine.connect() as connection:
        return tidy(copy_out(connection, query))


def stored_histories(engine: Engine) -> dict[str, StoredHistory]:
    """Describe the stored history of every ticker that a source has returned."""
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
        instruments.c.fetched_from,
        instruments.c.currency,
    ).outerjoin(spans, spans.c.ticker == instruments.c.ticker)
    with engine.connect() as connection:
        return {row[0]: StoredHistory(*row[1:]) for row in connection.execute(query)}


def reset_fetch_start(engine: Engine, tickers: Sequence[str]) -> list[str]:
    """Make the next ingestion fetch tickers as if they were new, and accept their whole history.

    Stored bars stay; values that differ then become revisions.

    Returns
    -------
    list of str
        Those of the tickers that had been fetched, sorted.
    """
    known = (
        delete(instruments)
        .where(instruments.c.ticker.in_(list(tickers)))
        .returning(instruments.c.ticker)
    )
    with recording(engine, note="histories are to be fetched again") as connection:
        return sorted(connection.scalars(known))


def read_revisions(engine: Engine, dagster_run_id: str) -> pd.DataFrame:
    """Read the values of bars that a run revised, old and new, in the order of writing."""
    names = ("ticker", "session", "field", "old_value", "new_value", "revised_at")
    query = (
        select(*(price_revisions.c[name] for name in names))
        .where(price_revisions.c.dagster_run_id == dagster_run_id)
        .order_by(price_revisions.c.id)
    )
    with engine.connect() as connection:
        return copy_out(connection, query)


def read_actions(connection: Connection, tickers: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the corporate actions of `tickers` or of all, as traded, in effect or not yet."""
    query = select(*(corporate_actions.c[name] for name in ACTION_COLUMNS))
    if tickers is not None:
        query = query.where(corporate_actions.c.ticker.in_(list(tickers)))
    return tidy_actions(copy_out(connection, query))


@dataclass(frozen=True)
class PriceCoverage:
    """How much of the price history is stored."""

    bars: int
    tickers: int
    first_session: date | None
    last_session: date | None


def price_coverage(engine: Engine) -> PriceCoverage:
    """Count the stored bars and tickers."""
    table = raw_stock_data.c
    query = select(
        func.count(),
        func.count(table.ticker.distinct()),
        func.min(table.session),
        func.max(table.session),
    )
    with engine.connect() as connection:
        return PriceCoverage(*connection.execute(query).one())
