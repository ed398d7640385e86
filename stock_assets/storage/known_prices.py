"""Bars as they were known at a link of the record, from the histories of bars and actions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import pandas as pd
from sqlalchemy import Connection, Engine, Text, func, select
from sqlalchemy.dialects.postgresql import array

from stock_assets.config import Basis, Rename
from stock_assets.market.adjustment import adjust
from stock_assets.market.bars import BAR_COLUMNS, TRADED_COLUMNS, tidy
from stock_assets.market.calendar import SPAN
from stock_assets.market.corporate_actions import ACTION_COLUMNS, attach, tidy_actions
from stock_assets.storage.database import copy_out
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record import as_known
from stock_assets.storage.tables import (
    corporate_actions,
    raw_stock_data,
    record_links,
    ticker_renames,
)


def read_known_bars(
    engine: Engine,
    first: date,
    last: date,
    tickers: Sequence[str] | None,
    link: int,
    *,
    renamed: bool = False,
) -> pd.DataFrame:
    """Read bars as they were at a link of the record.

    Parameters and result are those of :func:`stock_assets.storage.prices.read_bars`, with the
    number of the link in place of the moment.
    """
    renames = _applied_renames(engine) if renamed else []
    bars, actions = as_known(raw_stock_data, link), as_known(corporate_actions, link)
    known, given = bars.selected_columns, actions.selected_columns
    bars = bars.where(known.session.between(first, last)).with_only_columns(
        *(known[name] for name in ("ticker", "session", *TRADED_COLUMNS))
    )
    actions = actions.with_only_columns(*(given[name] for name in ACTION_COLUMNS))
    if tickers is not None:
        names = {*tickers, *(rename.old for rename in renames)}
        bars = bars.where(known.ticker.in_(names))
        actions = actions.where(given.ticker.in_(names))
    with engine.connect() as connection:
        traded, effects = copy_out(connection, bars), copy_out(connection, actions)
        # An action takes effect on a bar only if it is later than the bar before.
        names = {*traded["ticker"], *(rename.old for rename in renames)}
        before = _last_bars_before(connection, sorted(names), first, link)
    traded = pd.concat([before, traded], ignore_index=True)
    for rename in renames:
        traded = _rename(traded, "session", rename)
        effects = _rename(effects, "ex_date", rename)
    if tickers is not None:
        traded = traded[traded["ticker"].isin(tickers)].reset_index(drop=True)
    attached = attach(traded, tidy_actions(effects))
    return tidy(attached[attached["session"] >= pd.Timestamp(first)][list(BAR_COLUMNS)])


def _last_bars_before(
    connection: Connection, tickers: Sequence[str], first: date, link: int
) -> pd.DataFrame:
    """Return ticker and session of each ticker's last bar before a day, as known at a link."""
    history = HISTORIES[raw_stock_data].c
    wanted = select(func.unnest(array(list(tickers), type_=Text())).label("ticker")).subquery()
    newest = (
        select(history.session, history.removed)
        .where(history.ticker == wanted.c.ticker, history.session < first, history.link <= link)
        .order_by(history.session.desc(), history.link.desc())
        .limit(1)
        .lateral("newest")
    )
    query = select(wanted.c.ticker, newest.c.session).join(newest, ~newest.c.removed)
    return copy_out(connection, query)


def _applied_renames(engine: Engine) -> list[Rename]:
    """Read every rename that was applied, in order of time."""
    names = ticker_renames.c
    query = select(names.old_ticker, names.new_ticker, names.first_session)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(names.first_session)).all()
    return [Rename(old=old, new=new, first_session=first) for old, new, first in rows]


def _rename(rows: pd.DataFrame, day: str, rename: Rename) -> pd.DataFrame:
    """Rename rows of the old name before the rename, unless the new name has the same session."""
    moved = (rows["ticker"] == rename.old) & (rows[day] < pd.Timestamp(rename.first_session))
    if not moved.any():
        return rows
    named = pd.concat([rows[~moved], rows[moved].assign(ticker=rename.new)])
    key = [name for name in ("ticker", day, "kind") if name in named]
    return named.drop_duplicates(key).sort_values(key, ignore_index=True)


def read_ticker(
    engine: Engine, ticker: str, link: int, basis: Basis, as_of: date | None = None
) -> pd.DataFrame:
    """Read the bars of a ticker as they were known at a link, on a price basis.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    ticker : str
        Its name at the link.
    link : int
        Number of a link of the record.
    basis : {"raw", "split_adjusted", "adjusted"}
        Which events to adjust for.
    as_of : date, optional
        Bars up to this day, adjusted as of the last of them; of all sessions if None.

    Returns
    -------
    DataFrame
        A bars frame and ``known_since`` (UTC): since when the prices and the volume of a bar, as
        traded, had been known. Bars from before there was a record are known since it began.
    """
    first, last = SPAN
    bars = read_known_bars(engine, first, as_of or last, [ticker], link)
    if bars.empty:
        return bars.assign(known_since=pd.Series(dtype="datetime64[us, UTC]"))
    adjusted = adjust(bars, basis, bars["session"].iloc[-1].date())
    since = adjusted["session"].dt.date.map(_known_since(engine, ticker, link))
    return adjusted.assign(known_since=since.astype("datetime64[us, UTC]"))


def _known_since(engine: Engine, ticker: str, link: int) -> dict[date, datetime]:
    """Read, by session, when the newest state of a ticker's bars up to a link was written."""
    bars = HISTORIES[raw_stock_data].c
    query = (
        select(bars.session, func.max(record_links.c.written_at))
        .join_from(HISTORIES[raw_stock_data], record_links, bars.link == record_links.c.link)
        .where(bars.ticker == ticker, bars.link <= link)
        .group_by(bars.session)
    )
    with engine.connect() as connection:
        return dict(connection.execute(query).all())
