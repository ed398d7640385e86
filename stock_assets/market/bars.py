"""The frame of daily bars that everything passes around, and the rules that each bar must keep.

A *bars* frame has the columns ``BAR_COLUMNS`` in this order, one row per ticker and session, sorted
by both, with a ``RangeIndex``:

============== ============== ====================================================================
column         dtype          meaning
============== ============== ====================================================================
ticker         object (str)   the exchange's symbol
session        datetime64[ns] naive midnight of the trading day in New York
open … close   float64        US dollars per share, as traded unless a function says otherwise
volume         float64        shares
dividends      float64        cash per share, as traded, on its ex-date; 0.0 for none
stock_splits   float64        new shares per old one on the ex-date; 0.0 for none, 2.0 for 2:1
============== ============== ====================================================================

The bar of a split's ex-date is already in new shares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from stock_assets.market import calendar

PRICE_COLUMNS = ("open", "high", "low", "close")
_NUMBER_COLUMNS = (*PRICE_COLUMNS, "volume", "dividends", "stock_splits")
BAR_COLUMNS = ("ticker", "session", *_NUMBER_COLUMNS)


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a frame the columns, dtypes, order and index of a bars frame.

    Parameters
    ----------
    frame : DataFrame
        Has at least ``BAR_COLUMNS``; other columns are left out. ``session`` holds dates or naive
        timestamps.

    Returns
    -------
    DataFrame
        A new bars frame with the same rows. Their content is not judged: see ``violations``.

    Raises
    ------
    KeyError
        A column is missing.
    """
    dtypes: dict[str, Any] = dict.fromkeys(_NUMBER_COLUMNS, "float64")
    dtypes |= {"ticker": "object", "session": "datetime64[ns]"}
    ordered = frame.loc[:, list(BAR_COLUMNS)].astype(dtypes)
    return ordered.sort_values(["ticker", "session"], kind="stable", ignore_index=True)


def empty_bars() -> pd.DataFrame:
    """Make a bars frame without rows."""
    return tidy(pd.DataFrame(columns=list(BAR_COLUMNS)))


@dataclass(frozen=True)
class Rule:
    """Something that no bar may do.

    Attributes
    ----------
    name : str
        What is wrong with a bar that breaks the rule.
    columns : tuple of str
        The columns that show it.
    broken : callable
        Takes a bars frame and gives a bool Series on its index, true where the rule is broken.
    """

    name: str
    columns: tuple[str, ...]
    broken: Callable[[pd.DataFrame], pd.Series]


def _beyond_counting(values: pd.Series) -> pd.Series:
    return ~values.between(0.0, np.inf, inclusive="left")


def _not_a_session(bars: pd.DataFrame) -> pd.Series:
    sessions = pd.DatetimeIndex(calendar.sessions(*calendar.HORIZON))
    return ~bars["session"].isin(sessions)


RULES: tuple[Rule, ...] = (
    Rule(
        "price is not a finite number",
        PRICE_COLUMNS,
        lambda bars: ~bars[list(PRICE_COLUMNS)].abs().lt(np.inf).all(axis=1),
    ),
    Rule(
        "price is not positive",
        PRICE_COLUMNS,
        lambda bars: bars[list(PRICE_COLUMNS)].le(0.0).any(axis=1),
    ),
    Rule(
        "low is above open or close",
        ("open", "low", "close"),
        lambda bars: bars["low"] > bars[["open", "close"]].min(axis=1),
    ),
    Rule(
        "high is below open or close",
        ("open", "high", "close"),
        lambda bars: bars["high"] < bars[["open", "close"]].max(axis=1),
    ),
    Rule(
        "volume is negative or not finite",
        ("volume",),
        lambda bars: _beyond_counting(bars["volume"]),
    ),
    Rule(
        "dividend is negative or not finite",
        ("dividends",),
        lambda bars: _beyond_counting(bars["dividends"]),
    ),
    Rule(
        "split is negative or not finite",
        ("stock_splits",),
        lambda bars: _beyond_counting(bars["stock_splits"]),
    ),
    Rule(
        "ticker has two bars of one session",
        ("close",),
        lambda bars: bars.duplicated(["ticker", "session"], keep=False),
    ),
    Rule(
        "day is not a session of the exchange",
        ("session",),
        _not_a_session,
    ),
)


def violations(bars: pd.DataFrame) -> pd.DataFrame:
    """List every broken rule of every bar.

    Parameters
    ----------
    bars : DataFrame
        Has the columns and dtypes of a bars frame, in any row order.

    Returns
    -------
    DataFrame
        Columns ``ticker``, ``session``, ``rule`` (a name in ``RULES``) and ``detail`` (the values
        that break it, as text); in the order of ``RULES``, then of the rows. Empty if all is well.
    """
    found = [_broken(bars, rule) for rule in RULES]
    return pd.concat(found, ignore_index=True)


def _broken(bars: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    rows = bars[rule.broken(bars)]
    detail = [
        ", ".join(f"{name} {value}" for name, value in zip(rule.columns, values, strict=True))
        for values in rows[list(rule.columns)].itertuples(index=False)
    ]
    return rows[["ticker", "session"]].assign(
        rule=pd.Series(rule.name, rows.index, dtype=object),
        detail=pd.Series(detail, rows.index, dtype=object),
    )


def missing_bars(
    bars: pd.DataFrame,
    tickers: Sequence[str],
    sessions: Sequence[date],
    listed_since: Mapping[str, date],
) -> dict[str, int]:
    """Count, per ticker, the sessions that should have a bar and have none.

    Parameters
    ----------
    bars : DataFrame
        The bars that arrived.
    tickers, sessions : sequence of str, sequence of date
        Whose bars were asked for, and of which sessions.
    listed_since : dict of str to date
        Session of each ticker's first known bar; nothing is expected before it, nor of a ticker
        that is not named.

    Returns
    -------
    dict of str to int
        Tickers that lack a bar, in alphabetical order.
    """
    arrived = set(zip(bars["ticker"], bars["session"].dt.date, strict=True))
    counts = {
        ticker: sum(
            session >= listed_since[ticker] and (ticker, session) not in arrived
            for session in sessions
        )
        for ticker in sorted(listed_since.keys() & set(tickers))
    }
    return {ticker: count for ticker, count in counts.items() if count}


def content_digest(frame: pd.DataFrame) -> str:
    """Hash the column names and the values of a frame, in their order; the index is left out.

    Equal content gives the same digest in every process and on every machine: a NaN is a NaN
    whatever its bits, minus zero is zero, and neither the width of a float nor the resolution of a
    timestamp counts.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps([len(frame), *map(str, frame.columns)]).encode())
    for name in frame.columns:
        content = _canonical_bytes(frame[name])
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _canonical_bytes(column: pd.Series) -> bytes:
    kind = column.dtype.kind
    if kind == "f":
        numbers = column.to_numpy("<f8") + 0.0
        return b"f" + np.where(np.isnan(numbers), np.nan, numbers).tobytes()
    if kind in "iub":
        return b"i" + column.to_numpy("<i8").tobytes()
    if kind == "M":
        return b"M" + column.to_numpy("<M8[ns]").tobytes()
    return b"O" + json.dumps(column.tolist(), default=str).encode()
