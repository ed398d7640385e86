"""Volatility of each ticker as of each session, which the widths of intervals follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Scale

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Averaging:
    """How volatility is averaged over sessions, and how small it may be.

    Attributes
    ----------
    deviation_weight : float
        Weight of the newest session in the average of squared returns (RiskMetrics 1996).
    range_weight : float
        The same in the average of squared ranges, which are less noisy.
    smallest_share : float
        Smallest volatility of a ticker, as a share of the mean of all tickers.
    smallest : float
        Smallest volatility of a ticker.
    """

    deviation_weight: float = 0.06
    range_weight: float = 0.10
    smallest_share: float = 0.1
    smallest: float = 1e-6


AVERAGING = Averaging()
"""The averaging of new models."""


def log_ranges(
    bars: pd.DataFrame, sessions: pd.DatetimeIndex, tickers: Sequence[str]
) -> FloatArray:
    """Return the logarithm of high over low of each bar, shape (T, N); NaN without a bar.

    Parameters
    ----------
    bars : DataFrame
        As traded or adjusted: both prices are in the shares of their session.
    sessions : DatetimeIndex, length T
    tickers : sequence of str, length N
        Bars of other sessions and tickers are ignored.
    """
    rows = sessions.get_indexer(pd.DatetimeIndex(bars["session"]))
    columns = pd.Index(list(tickers)).get_indexer(pd.Index(bars["ticker"]))
    placed = (rows >= 0) & (columns >= 0)
    high, low = (bars[name].to_numpy(np.float64)[placed] for name in ("high", "low"))
    ranges = np.full((len(sessions), len(tickers)), np.nan)
    ranges[rows[placed], columns[placed]] = np.log(high / low)
    return ranges


def volatility(
    scale: Scale, close: FloatArray, ranges: FloatArray, averaging: Averaging = AVERAGING
) -> FloatArray:
    """Estimate the volatility of one session's log return; row t reads rows up to t only.

    ``deviation`` is the root of the exponentially weighted mean of squared log returns. ``range``
    replaces them by Parkinson's ``ln(high / low)**2 / (4 ln 2)`` (1980, "The extreme value method
    for estimating the variance of the rate of return", J. Business 53). ``combined`` is the
    geometric mean of both and of the mean range of all tickers. ``constant`` is 1.

    Parameters
    ----------
    scale : Scale
    close : (T, N) float64
        Adjusted for all corporate actions, NaN without a bar.
    ranges : (T, N) float64
        From :func:`log_ranges`.
    averaging : Averaging

    Returns
    -------
    (T, N) float64
        Positive; at least `averaging` allows. A session without a bar has the value
        before it, and a ticker without any the mean of the others. NaN before the first bar of all.
    """
    if scale == "constant":
        return np.ones_like(close)
    returns = np.full_like(close, np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    deviation = _root_mean(returns**2, averaging.deviation_weight, averaging)
    if scale == "deviation":
        return deviation
    known = np.where(np.isfinite(close), ranges, np.nan)
    parkinson = _root_mean(known**2 / (4 * np.log(2)), averaging.range_weight, averaging)
    if scale == "range":
        return parkinson
    combined: FloatArray = np.cbrt(deviation * parkinson * parkinson.mean(axis=1, keepdims=True))
    return combined


def _root_mean(squares: FloatArray, weight: float, averaging: Averaging) -> FloatArray:
    """Return the root of the exponentially weighted mean, without gaps and not near zero."""
    mean = pd.DataFrame(squares).ewm(alpha=weight, adjust=False, ignore_na=True).mean()
    root = np.sqrt(np.ascontiguousarray(mean))
    count = np.isfinite(root).sum(axis=1, keepdims=True)
    market = np.nansum(root, axis=1, keepdims=True) / np.where(count, count, np.nan)
    filled = np.where(np.isfinite(root), root, market)
    smallest = np.maximum(averaging.smallest_share * market, averaging.smallest)
    floored: FloatArray = np.maximum(filled, smallest)
    return floored
