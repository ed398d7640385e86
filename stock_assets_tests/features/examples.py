"""Synthetic bars that satisfy all rules for bars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import pandas as pd
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stock_assets.features.feature import INPUT_COLUMNS
from stock_assets.market import calendar
from stock_assets.market.adjustment import rebase
from stock_assets.market.bars import tidy

Columns = dict[str, NDArray[np.float64]]
FIRST = date(2010, 1, 4)

property_test = settings(max_examples=25, deadline=None)


def walk(rows: int, seed: int, still: slice = slice(0)) -> Columns:
    """Return a random walk; during `still` nothing trades and the price is constant."""
    random = np.random.default_rng(seed)
    moves = random.normal(0.0, 0.02, rows)
    gaps = random.normal(0.0, 0.01, rows)
    reach = random.exponential(0.005, (2, rows))
    volume = random.integers(0, 10_000_000, rows).astype(float)
    for part in (moves, gaps, reach[0], reach[1], volume):
        part[still] = 0.0
    close = 40.0 * np.exp(np.cumsum(moves))
    open_ = np.where(moves == 0.0, close, close * np.exp(gaps))
    return {
        "open": open_,
        "high": np.maximum(open_, close) * (1.0 + reach[0]),
        "low": np.minimum(open_, close) * (1.0 - reach[1]),
        "close": close,
        "volume": volume,
        "dividends": np.where(random.random(rows) < 0.01, 0.1, 0.0),
        "stock_splits": np.zeros(rows),
    }


@st.composite
def random_bars(draw: st.DrawFn, least: int = 0, most: int = 280) -> Columns:
    """Draw bars of any length, with a trading suspension."""
    rows = draw(st.integers(least, most), label="rows")
    start = draw(st.integers(0, rows), label="suspended from")
    length = draw(st.sampled_from([0, 1, 3, 30, 120]), label="suspended for")
    return walk(rows, draw(st.integers(0, 2**32 - 1), label="seed"), slice(start, start + length))


def columns_of(bars: pd.DataFrame, ticker: str) -> Columns:
    """Return the arrays of one ticker in a bars frame."""
    own = bars[bars["ticker"] == ticker]
    return {name: own[name].to_numpy(copy=True) for name in INPUT_COLUMNS}


def part(bars: Mapping[str, NDArray[np.float64]], rows: slice) -> Columns:
    """Copy consecutive rows of every column."""
    return {name: column[rows].copy() for name, column in bars.items()}


def as_frame(history: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> pd.DataFrame:
    """Return a bars frame on consecutive sessions from `FIRST` on."""
    parts = []
    for ticker, columns in history.items():
        sessions = session_dates(len(columns["close"]))
        parts.append(pd.DataFrame({"ticker": ticker, "session": sessions, **columns}))
    return tidy(pd.concat(parts))


def as_traded(bars: pd.DataFrame) -> pd.DataFrame:
    """Rebase bars to the basis "raw"."""
    return rebase(bars, "raw", {})


def session_dates(count: int) -> pd.DatetimeIndex:
    """Return the first sessions from `FIRST` on."""
    return pd.DatetimeIndex(calendar.sessions(FIRST, date(2020, 1, 1))[:count])


def same_bits(left: NDArray[np.floating], right: NDArray[np.floating]) -> bool:
    """Compare bit for bit: NaN equals NaN, and 0.0 differs from -0.0."""
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )
