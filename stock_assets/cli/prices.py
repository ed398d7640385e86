"""``stock-assets prices``: the bars of a ticker as they were known at a moment."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from stock_assets.config import Basis
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import write_moment
from stock_assets.core.text import truncate
from stock_assets.market.calendar import close_time, next_session, require_session
from stock_assets.storage.known_prices import read_currency, read_ticker
from stock_assets.storage.prices import stored_histories
from stock_assets.storage.record import Link, find_link, head, link_at
from stock_assets.storage.serving.tickers import name_since_rename

_SHOWN = 20
_NUMBERS = ("open", "high", "low", "close", "volume", "dividends", "stock_splits")


def gather_prices(
    engine: Engine,
    ticker: str,
    first: date | None,
    last: date | None,
    as_of: date | None,
    known_at: datetime | None,
    basis: Basis,
) -> dict[str, Any]:
    """Return bars of a ticker as they were known at a moment, as plain values.

    Without a first session these are the newest ones, as many as a screen shows.

    Raises
    ------
    StockAssetsError
        No bar is known in the span or at the moment, or ``as_of`` is not a session.
    """
    ticker = ticker.upper()
    if as_of is not None:
        require_session(as_of)
    link = _link(engine, known_at)
    bars = None if link is None else read_ticker(engine, ticker, link.number, basis, as_of)
    if link is None or bars is None or bars.empty:
        raise _unknown(engine, ticker, as_of, known_at)
    days = bars["session"].dt.date
    shown = bars[days.between(first or date.min, last or date.max)]
    if shown.empty:
        raise StockAssetsError(
            f"no bar of {ticker} is between {first or days.iloc[0]} and {last or days.iloc[-1]}",
            f"Its bars are from {days.iloc[0]} to {days.iloc[-1]}",
        )
    if first is None:
        shown = shown.tail(_SHOWN)
    currency = read_currency(engine, ticker, link.number)
    return {
        "ticker": ticker,
        "basis": basis,
        "currency": currency and currency[0],
        "currency_known_since": currency and write_moment(currency[1]),
        "as_of_session": days.iloc[-1],
        "known_at": write_moment(known_at or link.written_at),
        "link": link.number,
        "bars": [_plain(row) for row in shown.to_dict("records")],
    }


def _link(engine: Engine, known_at: datetime | None) -> Link | None:
    return head(engine) if known_at is None else find_link(engine, link_at(engine, known_at))


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    session, since = row["session"].date(), row["known_since"]
    actions_since = row["actions_known_since"]
    return {
        "session": session,
        **{name: row[name] for name in _NUMBERS},
        "known_since": write_moment(since),
        "actions_known_since": None if pd.isna(actions_since) else write_moment(actions_since),
        "loaded_later": bool(since > pd.Timestamp(close_time(next_session(session)))),
    }


def _unknown(
    engine: Engine, ticker: str, as_of: date | None, known_at: datetime | None
) -> StockAssetsError:
    """Return the error for missing bars, with those that exist."""
    stored = stored_histories(engine)
    if ticker in stored:
        when = "" if known_at is None else f" at {write_moment(known_at)}"
        span = "" if as_of is None else f" up to {as_of}"
        return StockAssetsError(
            f"no prices of {ticker}{span} were known{when}",
            f"See what is known now: stock-assets prices {ticker}",
        )
    renamed = name_since_rename(engine, ticker)
    if renamed is not None:
        return StockAssetsError(
            f"no prices are stored for {ticker}, renamed to {renamed[0]} on {renamed[1]}",
            f"stock-assets prices {renamed[0]}",
        )
    names = ", ".join(truncate(sorted(stored), 10))
    return StockAssetsError(
        f"no prices are stored for {ticker}",
        f"There are prices of {names}" if names else "Store some: stock-assets backfill raw_prices",
    )


def show_prices(found: dict[str, Any], console: Console) -> None:
    """Print bars as a table."""
    console.print(
        f"{found['ticker']} in {found['currency'] or 'an unknown currency'}, {found['basis']} as "
        f"of {found['as_of_session']}, as known at {found['known_at']}",
        soft_wrap=True,
    )
    # Without a column of actions where there are none, it fits a terminal of 80 characters.
    actions = any(bar["dividends"] or bar["stock_splits"] for bar in found["bars"])
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("session", "open", "high", "low", "close", "volume"):
        table.add_column(heading, justify="right", no_wrap=True)
    if actions:
        table.add_column("action", no_wrap=True)
    table.add_column("known since, UTC", no_wrap=True)
    for bar in found["bars"]:
        table.add_row(
            str(bar["session"]),
            *(f"{bar[name]:,.2f}" for name in ("open", "high", "low", "close")),
            f"{bar['volume']:,.0f}",
            *([_actions(bar)] if actions else []),
            _minute(bar["known_since"]),
        )
    console.print(table)
    for bar in found["bars"]:
        since = bar["actions_known_since"]
        if since not in (None, bar["known_since"]):
            line = f"{_actions(bar)} of {bar['session']}: known since {_minute(since)}"
            console.print(line, soft_wrap=True)
    later = sum(bar["loaded_later"] for bar in found["bars"])
    if later:
        console.print(
            f"{later:,} of {len(found['bars']):,} bars became known after the next session had "
            "closed: they were loaded or revised later.",
            soft_wrap=True,
        )


def _actions(bar: dict[str, Any]) -> str:
    kinds = {"div": bar["dividends"], "split": bar["stock_splits"]}
    return ", ".join(f"{kind} {value:g}" for kind, value in kinds.items() if value)


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
