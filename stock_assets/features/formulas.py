"""Formulae of indicators that TA-Lib lacks or computes differently.

Every function takes float64 arrays of one ticker's consecutive bars, oldest first, and the window
in sessions as its last argument. It returns a float64 array of the same length. Row t depends on no
row after t. Rows before the first complete window are undefined.

Sums over a window are recomputed at every row in the same order, so that a value has the same bits
wherever history starts. Running sums (TA-Lib, pandas) are faster, but accumulate rounding errors of
earlier rows. Where a formula divides 0 by 0 (a constant price, a window without volume), the result
is the neutral value of its scale.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import talib
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MACD_FAST_WINDOW = 12
CCI_CONSTANT = 0.015
STOCHASTIC_SMOOTHING = 3
BAND_DEVIATIONS = 2.0
LEAST_RELATIVE_VOLUME = 0.001


def identity(values: FloatArray) -> FloatArray:
    """Return a copy."""
    return values.copy()


def lag(values: FloatArray, sessions: int) -> FloatArray:
    """Return the value of `sessions` rows earlier; NaN in the first rows."""
    return np.concatenate([np.full(sessions, np.nan), values])[: len(values)]


def trailing_windows(values: FloatArray, window: int) -> FloatArray:
    """Return all windows as a view of shape (window, rows).

    Element (k, t) is the value at ``t - window + 1 + k``, NaN before the first row.
    """
    padded = np.concatenate([np.full(window - 1, np.nan), values])
    # The result of sliding_window_view at a tenth of its cost, which matters: a dataset makes 1e5.
    return np.ndarray((window, len(values)), padded.dtype, padded, strides=padded.strides * 2)


def rolling_sum(values: FloatArray, window: int) -> FloatArray:
    """Sum the last `window` values, oldest first."""
    return reduce(np.add, trailing_windows(values, window))


def rolling_mean(values: FloatArray, window: int) -> FloatArray:
    """Average the last `window` values."""
    return rolling_sum(values, window) / window


def rolling_std(values: FloatArray, window: int) -> FloatArray:
    """Compute the population standard deviation of the last `window` values, in two passes."""
    offsets = trailing_windows(values, window) - rolling_mean(values, window)
    variance: FloatArray = reduce(np.add, np.square(offsets)) / window
    return np.sqrt(variance)


def ratio(numerator: FloatArray, denominator: FloatArray, neutral: float) -> FloatArray:
    """Divide two arrays; `neutral` where the denominator is not positive."""
    quotient = np.full_like(numerator, neutral)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def typical_price(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Average high, low and close."""
    return (high + low + close) / 3.0


def macd(close: FloatArray, window: int) -> FloatArray:
    """Fast (12) minus slow exponential moving average, the MACD line (Appel)."""
    difference: FloatArray = talib.EMA(close, MACD_FAST_WINDOW) - talib.EMA(close, window)
    return difference


def commodity_channel_index(
    high: FloatArray, low: FloatArray, close: FloatArray, window: int
) -> FloatArray:
    """Distance of the typical price from its mean, in units of 0.015 mean deviations (Lambert).

    Prices are relative to the newest one, so that a constant price gives exactly 0 instead of the
    quotient of two rounding errors.
    """
    typical = typical_price(high, low, close)
    offsets = trailing_windows(typical, window) - typical
    centre = reduce(np.add, offsets) / window
    mean_deviation = reduce(np.add, np.abs(offsets - centre)) / window
    return ratio(-centre, CCI_CONSTANT * mean_deviation, neutral=0.0)


def stochastic_k(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Position of the close in the window's range, 0 to 100 (Lane)."""
    lowest = talib.MIN(low, window)
    return 100.0 * ratio(close - lowest, talib.MAX(high, window) - lowest, neutral=0.5)


def stochastic_d(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Average the last 3 values of %K (Lane)."""
    return rolling_mean(stochastic_k(high, low, close, window), STOCHASTIC_SMOOTHING)


def williams_r(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Position of the close in the window's range, -100 to 0 (Williams): %K minus 100."""
    return stochastic_k(high, low, close, window) - 100.0


def bollinger_high(close: FloatArray, window: int) -> FloatArray:
    """Return the moving average plus 2 population standard deviations (Bollinger)."""
    return rolling_mean(close, window) + BAND_DEVIATIONS * rolling_std(close, window)


def bollinger_low(close: FloatArray, window: int) -> FloatArray:
    """Return the moving average minus 2 population standard deviations (Bollinger)."""
    return rolling_mean(close, window) - BAND_DEVIATIONS * rolling_std(close, window)


def keltner_high(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Mean of (4H - 2L + C) / 3: mean typical price plus mean range (Keltner's original band)."""
    return rolling_mean((4.0 * high - 2.0 * low + close) / 3.0, window)


def keltner_low(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Mean of (4L - 2H + C) / 3: mean typical price minus mean range (Keltner's original band)."""
    return rolling_mean((4.0 * low - 2.0 * high + close) / 3.0, window)


def on_balance_volume(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Volume of rising minus volume of falling sessions of the window (Granville).

    The usual running total depends on its first session and would differ between training and
    serving. Its change over `window` sessions does not.
    """
    return rolling_sum(np.sign(close - lag(close, 1)) * volume, window)


def money_flow_index(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, window: int
) -> FloatArray:
    """Share of the window's money flow with a rising typical price, 0 to 100 (Quong and Soudack).

    Money flow is typical price times volume. A session with an unchanged typical price counts for
    neither side.
    """
    typical = typical_price(high, low, close)
    flow = typical * volume
    change = typical - lag(typical, 1)
    rising = rolling_sum(flow * (change > 0), window)
    falling = rolling_sum(flow * (change < 0), window)
    return 100.0 * ratio(rising, rising + falling, neutral=0.5)


def volume_weighted_price(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, window: int
) -> FloatArray:
    """Volume-weighted mean of the typical price; unweighted in a window without volume."""
    typical = typical_price(high, low, close)
    traded = rolling_sum(volume, window)
    weighted = ratio(rolling_sum(typical * volume, window), traded, neutral=np.nan)
    return np.where(traded > 0, weighted, rolling_mean(typical, window))


def chaikin_money_flow(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, window: int
) -> FloatArray:
    """Volume-weighted mean position of the close in the session's range, -1 to 1 (Chaikin)."""
    place = ratio((close - low) - (high - close), high - low, neutral=0.0)
    return ratio(rolling_sum(place * volume, window), rolling_sum(volume, window), neutral=0.0)


def force_index(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Exponential moving average of the change of the close times volume (Elder)."""
    average: FloatArray = talib.EMA((close - lag(close, 1)) * volume, window)
    return average


def log_ratio(later: FloatArray, earlier: FloatArray, window: int) -> FloatArray:
    """Logarithm of `later` over `earlier` of `window` sessions before (0: the same session)."""
    return np.log(later / lag(earlier, window))


def volatility(close: FloatArray, window: int) -> FloatArray:
    """Compute the standard deviation of the last `window` daily log returns, not annualised."""
    return rolling_std(log_ratio(close, close, 1), window)


def relative_volume(volume: FloatArray, window: int) -> FloatArray:
    """Logarithm of volume over its mean, floored at 0.1% of the mean."""
    share = ratio(volume, rolling_mean(volume, window), neutral=1.0)
    return np.log(np.maximum(share, LEAST_RELATIVE_VOLUME))
