"""The arithmetic of the indicators that TA-Lib lacks, or computes in another way than is needed.

Every function takes one-dimensional float64 arrays of one ticker's consecutive bars, oldest first,
with the window in sessions as the last argument, and returns a float64 array of the same length
whose row t depends on no row after t. Rows before the first whole window are left undefined.

Where a formula looks over a window, the window is summed afresh at every row and always in the same
order, so that a value has the same bits wherever the history starts. Running sums (TA-Lib, pandas)
are faster but drift with the rows before the window. Where a formula divides nothing by nothing (a
price that does not move, a window without volume) the result is the neutral value of its scale.
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


def unchanged(values: FloatArray) -> FloatArray:
    """Return a copy: a raw column is a feature as it stands."""
    return values.copy()


def lagged(values: FloatArray, sessions: int) -> FloatArray:
    """Value of `sessions` rows ago; NaN where there is none."""
    return np.concatenate([np.full(sessions, np.nan), values])[: len(values)]


def trailing(values: FloatArray, window: int) -> FloatArray:
    """All windows at once, as a view of shape (window, rows).

    Row k holds, for each t, the value at ``t - window + 1 + k``; NaN before the first row.
    """
    padded = np.concatenate([np.full(window - 1, np.nan), values])
    # What sliding_window_view gives, at a tenth of its cost: there are a hundred thousand of these.
    return np.ndarray((window, len(values)), padded.dtype, padded, strides=padded.strides * 2)


def window_sum(values: FloatArray, window: int) -> FloatArray:
    """Sum of the last `window` values, added oldest first."""
    return reduce(np.add, trailing(values, window))


def window_mean(values: FloatArray, window: int) -> FloatArray:
    """Average the last `window` values, each counting the same."""
    return window_sum(values, window) / window


def window_deviation(values: FloatArray, window: int) -> FloatArray:
    """Take the population standard deviation of the last `window` values, in two passes."""
    offsets = trailing(values, window) - window_mean(values, window)
    variance: FloatArray = reduce(np.add, np.square(offsets)) / window
    return np.sqrt(variance)


def ratio(numerator: FloatArray, denominator: FloatArray, neutral: float) -> FloatArray:
    """Quotient of two arrays; `neutral` where the denominator is not positive."""
    quotient = np.full_like(numerator, neutral)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def typical_price(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Mean of high, low and close."""
    return (high + low + close) / 3.0


def macd(close: FloatArray, window: int) -> FloatArray:
    """Fast (12) minus slow exponential moving average (Appel; the line, without its signal)."""
    difference: FloatArray = talib.EMA(close, MACD_FAST_WINDOW) - talib.EMA(close, window)
    return difference


def commodity_channel_index(
    high: FloatArray, low: FloatArray, close: FloatArray, window: int
) -> FloatArray:
    """Distance of the typical price from its mean, in units of 0.015 mean deviations (Lambert).

    Prices are taken relative to the newest one, so that a price at rest gives exactly 0, not the
    quotient of two rounding errors.
    """
    typical = typical_price(high, low, close)
    offsets = trailing(typical, window) - typical
    centre = reduce(np.add, offsets) / window
    mean_deviation = reduce(np.add, np.abs(offsets - centre)) / window
    return ratio(-centre, CCI_CONSTANT * mean_deviation, neutral=0.0)


def stochastic_k(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Place of the close within the window's range, 0 to 100 (Lane)."""
    lowest = talib.MIN(low, window)
    return 100.0 * ratio(close - lowest, talib.MAX(high, window) - lowest, neutral=0.5)


def stochastic_d(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Mean of the last 3 values of %K (Lane)."""
    return window_mean(stochastic_k(high, low, close, window), STOCHASTIC_SMOOTHING)


def williams_r(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Place of the close within the window's range, -100 to 0 (Williams): %K less 100."""
    return stochastic_k(high, low, close, window) - 100.0


def bollinger_high(close: FloatArray, window: int) -> FloatArray:
    """Give the moving average plus 2 population standard deviations (Bollinger)."""
    return window_mean(close, window) + BAND_DEVIATIONS * window_deviation(close, window)


def bollinger_low(close: FloatArray, window: int) -> FloatArray:
    """Give the moving average less 2 population standard deviations (Bollinger)."""
    return window_mean(close, window) - BAND_DEVIATIONS * window_deviation(close, window)


def keltner_high(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Mean typical price plus mean range: Keltner's original upper band, mean of (4H-2L+C)/3."""
    return window_mean((4.0 * high - 2.0 * low + close) / 3.0, window)


def keltner_low(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Mean typical price less mean range: Keltner's original lower band, mean of (4L-2H+C)/3."""
    return window_mean((4.0 * low - 2.0 * high + close) / 3.0, window)


def on_balance_volume(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Volume of the rising less that of the falling sessions (Granville), over a window.

    The usual running total depends on the session it starts from, and so would differ between
    training and serving; its change over `window` sessions does not.
    """
    return window_sum(np.sign(close - lagged(close, 1)) * volume, window)


def money_flow_index(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, window: int
) -> FloatArray:
    """Share of the money flow of the window that came with a rising typical price, 0 to 100.

    Quong and Soudack. Money flow is typical price times volume; a session with the typical price of
    the one before counts for neither side.
    """
    typical = typical_price(high, low, close)
    flow = typical * volume
    change = typical - lagged(typical, 1)
    rising = window_sum(flow * (change > 0), window)
    falling = window_sum(flow * (change < 0), window)
    return 100.0 * ratio(rising, rising + falling, neutral=0.5)


def volume_weighted_price(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, window: int
) -> FloatArray:
    """Mean typical price of the window weighted by volume; unweighted if nothing traded."""
    typical = typical_price(high, low, close)
    traded = window_sum(volume, window)
    weighted = ratio(window_sum(typical * volume, window), traded, neutral=np.nan)
    return np.where(traded > 0, weighted, window_mean(typical, window))


def chaikin_money_flow(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, window: int
) -> FloatArray:
    """Volume weighted mean of where the close lies in the day's range, -1 to 1 (Chaikin)."""
    place = ratio((close - low) - (high - close), high - low, neutral=0.0)
    return ratio(window_sum(place * volume, window), window_sum(volume, window), neutral=0.0)


def force_index(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Exponential moving average of the change of the close times volume (Elder)."""
    average: FloatArray = talib.EMA((close - lagged(close, 1)) * volume, window)
    return average


def log_change(later: FloatArray, earlier: FloatArray, window: int) -> FloatArray:
    """Logarithm of `later` over what `earlier` was `window` sessions before (0: the same day)."""
    return np.log(later / lagged(earlier, window))


def volatility(close: FloatArray, window: int) -> FloatArray:
    """Take the standard deviation of the last `window` daily log returns, not annualised."""
    return window_deviation(log_change(close, close, 1), window)


def relative_volume(volume: FloatArray, window: int) -> FloatArray:
    """Logarithm of volume over its mean; less than a thousandth of it counts as a thousandth."""
    share = ratio(volume, window_mean(volume, window), neutral=1.0)
    return np.log(np.maximum(share, LEAST_RELATIVE_VOLUME))
