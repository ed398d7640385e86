"""Prices as they were known at a link of the record, from the histories, and since when.

Readers name a moment (`known_at`): :func:`stock_assets.storage.prices.read_bars` turns it into the
newest link written by then. A fact has been known since the link that wrote its value. Another
source, run or name of the ticker changes no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

import pandas as pd
from sqlalchemy import Connection, Engine, Table, Text, and_, func, or_, select, true
from sqlalchemy.dialects.postgresql import array, distinct_on

from stock_assets.config import Basis, Rename
from stock_assets.market.adjustment import adjust
from stock_assets.market.bars import BAR_COLUMNS, TRADED_COLUMNS, tidy
from stock_assets.market.calendar import SPAN
from stock_assets.market.corporate_actions import ACTION_COLUMNS, attach, tidy_actions
from stock_assets.storage.database import copy_out
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record import as_known, key_columns
from stock_assets.storage.tables import (
    corporate_actions,
    instruments,
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
        .ext(distinct_on(history.session))
        .order_by(history.session.desc(), history.link.desc())
        .lateral("newest")
    )
    last = (
        select(newest.c.session)
        .where(~newest.c.removed)
        .order_by(newest.c.session.desc())
        .limit(1)
        .lateral("last_bar")
    )
    query = select(wanted.c.ticker, last.c.session).join(last, true())
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
        A bars frame; ``known_since`` (UTC), of the prices and the volume of a bar, as traded; and
        ``actions_known_since``, of the newest of its dividends and splits, NaT without any. What
        was stored before there was a record is known since it began.
    """
    first, last = SPAN
    bars = read_known_bars(engine, first, as_of or last, [ticker], link)
    if bars.empty:
        return bars.assign(**dict.fromkeys(("known_since", "actions_known_since"), _NEVER))
    sessions = bars["session"]
    with engine.connect() as connection:
        traded = _known_since(connection, raw_stock_data, TRADED_COLUMNS, ticker, link)
        actions = _known_since(connection, corporate_actions, ["value"], ticker, link)
    actions = actions[actions["ex_date"].between(sessions.iloc[0], sessions.iloc[-1])]
    effective = sessions.iloc[sessions.searchsorted(actions["ex_date"])]
    of_bar = actions["known_since"].groupby(effective.to_numpy()).max()
    adjusted = adjust(bars, basis, sessions.iloc[-1].date())
    since = {
        "known_since": traded.set_index("session")["known_since"],
        "actions_known_since": of_bar,
    }
    return adjusted.assign(
        **{name: adjusted["session"].map(at).astype(_NEVER.dtype) for name, at in since.items()}
    )


def read_currency(engine: Engine, ticker: str, link: int) -> tuple[str, datetime] | None:
    """Return the currency of a ticker as it was known at a link, and since when; None if unknown.

    After a request to fetch the whole history again it is unknown until that fetch completes.
    """
    with engine.connect() as connection:
        known = _known_since(connection, instruments, ["currency"], ticker, link)
    if known.empty:
        return None
    return known["currency"].iloc[0], known["known_since"].iloc[0].to_pydatetime()


_NEVER = pd.Series(dtype="datetime64[us, UTC]")


def _known_since(
    connection: Connection, table: Table, values: Sequence[str], ticker: str, link: int
) -> pd.DataFrame:
    """Read the rows of a ticker that were known at a link, each with the time of its values.

    Returns
    -------
    DataFrame
        The key, `values` and ``known_since``: when the newest run of equal values began.
    """
    history = HISTORIES[table].c
    key = key_columns(HISTORIES[table])
    renames = _renames_until(connection, link)
    former = [
        and_(
            history.ticker == name.old,
            *(history[day] < name.first_session for day in key if day in ("session", "ex_date")),
        )
        for name in _former_names(ticker, renames)
    ]
    query = (
        select(
            *(history[name] for name in (*key, *values, "link", "removed")),
            record_links.c.written_at,
        )
        .join_from(HISTORIES[table], record_links, history.link == record_links.c.link)
        .where(or_(history.ticker == ticker, *former), history.link <= link)
        .order_by(*(history[name] for name in key if name != "ticker"), history.link)
    )
    states = copy_out(connection, query).astype({"removed": bool, "link": "int64"})
    own = states["ticker"] == ticker
    moved = states["removed"] & states["link"].isin([one.link for one in renames])
    states = states.assign(ticker=ticker)
    # Rows of a former name count until there is one of the present name.
    taken_over = states["link"].where(own).groupby([states[name] for name in key]).transform("min")
    states = states[own | ((states["link"] < taken_over) & ~moved)]
    before = states.groupby(key)[[*values, "removed"]].shift()
    same = (states[list(values)] == before[list(values)]).all(axis="columns")
    begins = states["removed"] | before["removed"].ne(False) | ~same
    begun = states[begins].drop_duplicates(key, keep="last")
    begun = begun[~begun["removed"]]
    since = pd.to_datetime(begun["written_at"], format="ISO8601", utc=True).astype(_NEVER.dtype)
    return begun[[*key, *values]].assign(known_since=since).reset_index(drop=True)


class _Applied(NamedTuple):
    """A rename, and a link in which rows were moved."""

    old: str
    new: str
    first_session: date
    link: int


def _renames_until(connection: Connection, link: int) -> list[_Applied]:
    """Read every application of a rename up to a link."""
    names = HISTORIES[ticker_renames].c
    query = select(names.old_ticker, names.new_ticker, names.first_session, names.link)
    return [_Applied(*row) for row in connection.execute(query.where(names.link <= link))]


def _former_names(ticker: str, renames: Sequence[_Applied]) -> list[_Applied]:
    """Return the renames that led to a name, directly or through others."""
    found = [one for one in renames if one.new == ticker]
    for one in found:
        earlier = (other for other in renames if other.new == one.old)
        found += [other for other in earlier if other.first_session < one.first_session]
    return found
