"""Builds the panel: sessions x tickers x features on the exchange calendar, gaps marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.core.errors import StockAssetsError
from stock_assets.core.progress import bar
from stock_assets.features.feature import INPUT_COLUMNS
from stock_assets.features.indicators import find_feature
from stock_assets.market import calendar

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Panel:
    """Features of some tickers over consecutive sessions.

    Attributes
    ----------
    sessions : DatetimeIndex, length T
        Every session of the exchange in the span, whether or not anything traded.
    tickers : tuple of str, length N
    features : tuple of str, length F
    values : (T, N, F) float32
        NaN in the whole row where not valid.
    valid : (T, N) bool
        The ticker has a bar in this session and every feature a finite value.
    close : (T, N) float64
        Adjusted for all corporate actions on every basis of the features; labels and scores derive
        from it. NaN without a bar.
    """

    sessions: pd.DatetimeIndex
    tickers: tuple[str, ...]
    features: tuple[str, ...]
    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    close: FloatArray


def build_panel(
    bars: pd.DataFrame,
    tickers: Sequence[str],
    features: Sequence[str],
    first: date,
    last: date,
) -> Panel:
    """Compute features on each ticker's own bars and place them on the exchange's sessions.

    Gaps are not filled: a session without a bar is not valid, and indicators continue from the last
    bar to the next. A bar with a missing number counts as no bar.

    Parameters
    ----------
    bars : DataFrame
        In the chosen basis, from :func:`stock_assets.market.adjustment.rebase`, sorted by ticker
        and session. Other tickers and sessions are dropped before anything is computed.
    tickers : sequence of str
        Second axis of the panel. A ticker without bars is never valid.
    features : sequence of str
        Names of built-in or custom features, third axis of the panel.
    first, last : date
        First and last session.

    Raises
    ------
    StockAssetsError
        A feature is not declared, or a bar is not on a trading session.
    """
    declared = [find_feature(name) for name in features]
    sessions = pd.DatetimeIndex(calendar.sessions(first, last), name="session")
    known = _bars_in_span(bars, tickers, first, last)
    rows = _session_rows(known, sessions)
    columns = {name: known[name].to_numpy(dtype=np.float64) for name in INPUT_COLUMNS}
    adjusted_close = known["adjusted_close"].to_numpy(dtype=np.float64)
    values = np.full((len(sessions), len(tickers), len(declared)), np.nan, dtype=np.float32)
    valid = np.zeros((len(sessions), len(tickers)), dtype=np.bool_)
    close = np.full((len(sessions), len(tickers)), np.nan)
    bars_of = known.groupby("ticker", sort=False).indices
    progress = bar(tickers, "features")
    for number, ticker in enumerate(progress):
        own = bars_of.get(ticker)
        if own is None:
            continue
        inputs = {name: column[own] for name, column in columns.items()}
        computed = np.stack(
            [feature.compute(inputs).astype(np.float32) for feature in declared], axis=1
        )
        whole = np.isfinite(computed).all(axis=1)
        values[rows[own][whole], number] = computed[whole]
        valid[rows[own], number] = whole
        close[rows[own], number] = adjusted_close[own]
    return Panel(sessions, tuple(tickers), tuple(features), values, valid, close)


def to_frame(panel: Panel, target: FloatArray) -> pd.DataFrame:
    """Convert a panel to a long frame: one row per session and ticker, valid or not.

    Parameters
    ----------
    panel : Panel
    target : (T, N) float64
        Labels from :func:`stock_assets.features.labels.session_labels`.

    Returns
    -------
    DataFrame
        ``session``, ``ticker``, one float32 column per feature, ``target`` and ``valid``.
    """
    count = len(panel.tickers)
    by_row = panel.values.reshape(-1, len(panel.features))
    return pd.DataFrame(
        {
            "session": panel.sessions.repeat(count),
            "ticker": np.tile(np.array(panel.tickers, dtype=object), len(panel.sessions)),
            **{name: by_row[:, column] for column, name in enumerate(panel.features)},
            "target": target.ravel(),
            "valid": panel.valid.ravel(),
        }
    )


def _bars_in_span(
    bars: pd.DataFrame, tickers: Sequence[str], first: date, last: date
) -> pd.DataFrame:
    wanted = bars["ticker"].isin(tickers) & bars["session"].between(
        pd.Timestamp(first), pd.Timestamp(last)
    )
    numbers = bars[list(INPUT_COLUMNS)].to_numpy(dtype=np.float64)
    kept: pd.DataFrame = bars[wanted.to_numpy() & np.isfinite(numbers).all(axis=1)]
    return kept


def _session_rows(bars: pd.DataFrame, sessions: pd.DatetimeIndex) -> NDArray[np.intp]:
    """Return the position of every bar's session."""
    rows = sessions.get_indexer(pd.DatetimeIndex(bars["session"]))
    if (rows < 0).any():
        stray = bars[rows < 0].iloc[0]
        raise StockAssetsError(
            f"{stray['ticker']} has a bar on {stray['session']:%Y-%m-%d}, "
            f"which is not a trading session of {calendar.EXCHANGE}",
            "Correct the date at the price source, or remove the bar",
        )
    return rows
