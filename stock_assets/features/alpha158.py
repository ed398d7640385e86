"""Qlib's Alpha158: the published formulae, on whole windows of one ticker's bars.

The formulae are those of ``Alpha158DL`` in Microsoft's Qlib (``qlib/contrib/data/loader.py``, with
the operators of ``qlib/data/ops.py``), written anew and computed under the rules of this project
(:mod:`stock_assets.features.formulas`): a row is a function of its own window alone, bit for bit,
and a window that is not whole has no value, where Qlib gives that of a shorter one. Besides:

- Qlib takes ``VWAP0`` from its data; daily bars have no such price, so the typical price stands in;
- Qlib adds 1e-12 to divisors that may be 0. Here nothing divided by nothing is what that gives, 0;
- a correlation, or R squared, with something that does not move is 0, where Qlib has none;
- ``VMA`` and ``VSTD`` take a session with less than a thousandth of the window's mean volume to
  have a thousandth of it, and ``CORD`` takes volume after none to be unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np
import talib

from stock_assets.features.feature import Feature
from stock_assets.features.formulas import (
    LEAST_RELATIVE_VOLUME,
    FloatArray,
    lagged,
    ratio,
    trailing,
    typical_price,
    window_deviation,
    window_mean,
    window_sum,
)

WINDOWS = (5, 10, 20, 30, 60)
UPPER_QUANTILE = 0.8
LOWER_QUANTILE = 0.2


def body(open_: FloatArray, close: FloatArray) -> FloatArray:
    """Close less open, over the open."""
    return (close - open_) / open_


def length(open_: FloatArray, high: FloatArray, low: FloatArray) -> FloatArray:
    """Range of the session over the open."""
    return (high - low) / open_


def body_in_range(
    open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray
) -> FloatArray:
    """Close less open, over the range."""
    return ratio(close - open_, high - low, neutral=0.0)


def upper_shadow(open_: FloatArray, high: FloatArray, close: FloatArray) -> FloatArray:
    """High less the higher of open and close, over the open."""
    return (high - np.maximum(open_, close)) / open_


def upper_shadow_in_range(
    open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray
) -> FloatArray:
    """High less the higher of open and close, over the range."""
    return ratio(high - np.maximum(open_, close), high - low, neutral=0.0)


def lower_shadow(open_: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Lower of open and close less the low, over the open."""
    return (np.minimum(open_, close) - low) / open_


def lower_shadow_in_range(
    open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray
) -> FloatArray:
    """Lower of open and close less the low, over the range."""
    return ratio(np.minimum(open_, close) - low, high - low, neutral=0.0)


def shift(open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Twice the close less high and low, over the open."""
    return (2.0 * close - high - low) / open_


def shift_in_range(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Twice the close less high and low, over the range."""
    return ratio(2.0 * close - high - low, high - low, neutral=0.0)


def over_close(price: FloatArray, close: FloatArray) -> FloatArray:
    """Another price of the session over its close."""
    return price / close


def typical_over_close(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Typical price over the close."""
    return typical_price(high, low, close) / close


def earlier_close(close: FloatArray, window: int) -> FloatArray:
    """Close of `window` sessions ago over this one."""
    return lagged(close, window) / close


def mean(close: FloatArray, window: int) -> FloatArray:
    """Mean close over the close."""
    return window_mean(close, window) / close


def deviation(close: FloatArray, window: int) -> FloatArray:
    """Sample standard deviation of the close over the close."""
    return _sample_deviation(close, window) / close


def slope(close: FloatArray, window: int) -> FloatArray:
    """Rise per session of the line fitted to the closes (least squares), over the close."""
    return _slope(trailing(close, window) - close) / close


def determination(close: FloatArray, window: int) -> FloatArray:
    """R squared of the line fitted to the closes."""
    offsets = trailing(close, window) - close
    explained = np.square(_slope(offsets)) * _time_squares(window)
    return ratio(explained, _squares(offsets), neutral=0.0)


def residual(close: FloatArray, window: int) -> FloatArray:
    """Close less the fitted line's end, over the close."""
    offsets = trailing(close, window) - close
    end = reduce(np.add, offsets) / window + _slope(offsets) * (window - 1) / 2.0
    distance: FloatArray = -end / close
    return distance


def highest(high: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Highest high over the close."""
    top: FloatArray = talib.MAX(high, window)
    return top / close


def lowest(low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Lowest low over the close."""
    bottom: FloatArray = talib.MIN(low, window)
    return bottom / close


def upper_quantile(close: FloatArray, window: int) -> FloatArray:
    """80% quantile of the closes over the close."""
    return _quantile(close, window, UPPER_QUANTILE) / close


def lower_quantile(close: FloatArray, window: int) -> FloatArray:
    """20% quantile of the closes over the close."""
    return _quantile(close, window, LOWER_QUANTILE) / close


def rank(close: FloatArray, window: int) -> FloatArray:
    """Share of the closes up to this one; those that equal it count for half, and so does it."""
    closes = trailing(close, window)
    below = reduce(np.add, (closes < close).astype(np.float64))
    equal = reduce(np.add, (closes == close).astype(np.float64))
    share: FloatArray = (below + (equal + 1.0) / 2.0) / window
    return share


def place_in_range(high: FloatArray, low: FloatArray, close: FloatArray, window: int) -> FloatArray:
    """Place of the close between lowest low and highest high."""
    bottom = talib.MIN(low, window)
    return ratio(close - bottom, talib.MAX(high, window) - bottom, neutral=0.0)


def place_of_highest(high: FloatArray, window: int) -> FloatArray:
    """Place of the first highest high, as a share of the window: 1 for the newest session."""
    place: FloatArray = (trailing(high, window).T.argmax(axis=1) + 1.0) / window
    return place


def place_of_lowest(low: FloatArray, window: int) -> FloatArray:
    """Place of the first lowest low, as a share of the window: 1 for the newest session."""
    place: FloatArray = (trailing(low, window).T.argmin(axis=1) + 1.0) / window
    return place


def highest_after_lowest(high: FloatArray, low: FloatArray, window: int) -> FloatArray:
    """Sessions from the lowest low to the highest high, over the window."""
    return place_of_highest(high, window) - place_of_lowest(low, window)


def price_with_volume(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Correlation of the close with the logarithm of volume plus one."""
    return _correlation(close, np.log(volume + 1.0), window)


def changes_with_volume(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Correlation of close over the close before with log(1 + volume over the volume before)."""
    traded = ratio(volume, lagged(volume, 1), neutral=1.0)
    return _correlation(close / lagged(close, 1), np.log(traded + 1.0), window)


def rising_share(close: FloatArray, window: int) -> FloatArray:
    """Share of the sessions that closed higher."""
    return window_mean((close > lagged(close, 1)).astype(np.float64), window)


def falling_share(close: FloatArray, window: int) -> FloatArray:
    """Share of the sessions that closed lower."""
    return window_mean((close < lagged(close, 1)).astype(np.float64), window)


def rising_less_falling(close: FloatArray, window: int) -> FloatArray:
    """Share of the sessions that closed higher less that of those that closed lower."""
    return rising_share(close, window) - falling_share(close, window)


def gains(values: FloatArray, window: int) -> FloatArray:
    """Sum of the rises over that of all moves."""
    moves = values - lagged(values, 1)
    return _share_of_moves(np.maximum(moves, 0.0), moves, window)


def losses(values: FloatArray, window: int) -> FloatArray:
    """Sum of the falls over that of all moves."""
    moves = values - lagged(values, 1)
    return _share_of_moves(np.maximum(-moves, 0.0), moves, window)


def gains_less_losses(values: FloatArray, window: int) -> FloatArray:
    """Sum of the rises less that of the falls, over that of all moves."""
    moves = values - lagged(values, 1)
    return _share_of_moves(moves, moves, window)


def mean_volume(volume: FloatArray, window: int) -> FloatArray:
    """Mean volume over the session's."""
    usual = window_mean(volume, window)
    return ratio(usual, np.maximum(volume, LEAST_RELATIVE_VOLUME * usual), neutral=1.0)


def volume_deviation(volume: FloatArray, window: int) -> FloatArray:
    """Sample standard deviation of volume over the session's volume."""
    least = LEAST_RELATIVE_VOLUME * window_mean(volume, window)
    return ratio(_sample_deviation(volume, window), np.maximum(volume, least), neutral=0.0)


def weighted_volatility(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Coefficient of variation of the absolute return times volume."""
    weighted = np.abs(close / lagged(close, 1) - 1.0) * volume
    return ratio(_sample_deviation(weighted, window), window_mean(weighted, window), neutral=0.0)


def _sample_deviation(values: FloatArray, window: int) -> FloatArray:
    return window_deviation(values, window) / math.sqrt(1.0 - 1.0 / window)


def _time(window: int) -> FloatArray:
    """Sessions of a window about its middle."""
    return np.arange(window, dtype=np.float64) - (window - 1) / 2.0


def _time_squares(window: int) -> float:
    return window * (window**2 - 1) / 12.0


def _slope(offsets: FloatArray) -> FloatArray:
    """Least squares slope of windows, shape (window, rows), against time."""
    weighted = _time(len(offsets))[:, np.newaxis] * offsets
    rise: FloatArray = reduce(np.add, weighted) / _time_squares(len(offsets))
    return rise


def _squares(offsets: FloatArray) -> FloatArray:
    """Sum of the squared distances from the mean of each window."""
    centre = reduce(np.add, offsets) / len(offsets)
    total: FloatArray = reduce(np.add, np.square(offsets - centre))
    return total


def _correlation(left: FloatArray, right: FloatArray, window: int) -> FloatArray:
    """Correlate two series in each window; 0 where one does not move."""
    # Relative to the newest value, a series at rest gives zeros and no rounding errors.
    lefts, rights = trailing(left, window) - left, trailing(right, window) - right
    lefts -= reduce(np.add, lefts) / window
    rights -= reduce(np.add, rights) / window
    size = np.sqrt(reduce(np.add, np.square(lefts))) * np.sqrt(reduce(np.add, np.square(rights)))
    return ratio(reduce(np.add, lefts * rights), size, neutral=0.0)


def _quantile(values: FloatArray, window: int, share: float) -> FloatArray:
    """Quantile of each window, linear between the two values about it."""
    ordered = np.sort(trailing(values, window), axis=0)
    place = share * (window - 1)
    below = int(place)
    lower, upper = ordered[below], ordered[below + 1]
    between: FloatArray = lower + (upper - lower) * (place - below)
    return between


def _share_of_moves(part: FloatArray, moves: FloatArray, window: int) -> FloatArray:
    return ratio(window_sum(part, window), window_sum(np.abs(moves), window), neutral=0.0)


def _fixed(name: str, formula: Callable[..., FloatArray], *inputs: str) -> Feature:
    return Feature(name, "alpha158", formula, inputs, scale_free=True)


def _rolling(
    family: str, formula: Callable[..., FloatArray], *inputs: str, before: int = 0
) -> tuple[Feature, ...]:
    """Declare a family over all windows, of which each needs `before` bars before its first."""
    return tuple(
        Feature(
            f"{family}{window}",
            "alpha158",
            formula,
            inputs,
            window,
            window - 1 + before,
            # The one added to the volume of CORR is in shares.
            scale_free=formula is not price_with_volume,
        )
        for window in WINDOWS
    )


ALPHA158 = (
    _fixed("KMID", body, "open", "close"),
    _fixed("KLEN", length, "open", "high", "low"),
    _fixed("KMID2", body_in_range, "open", "high", "low", "close"),
    _fixed("KUP", upper_shadow, "open", "high", "close"),
    _fixed("KUP2", upper_shadow_in_range, "open", "high", "low", "close"),
    _fixed("KLOW", lower_shadow, "open", "low", "close"),
    _fixed("KLOW2", lower_shadow_in_range, "open", "high", "low", "close"),
    _fixed("KSFT", shift, "open", "high", "low", "close"),
    _fixed("KSFT2", shift_in_range, "high", "low", "close"),
    _fixed("OPEN0", over_close, "open", "close"),
    _fixed("HIGH0", over_close, "high", "close"),
    _fixed("LOW0", over_close, "low", "close"),
    _fixed("VWAP0", typical_over_close, "high", "low", "close"),
    *_rolling("ROC", earlier_close, "close", before=1),
    *_rolling("MA", mean, "close"),
    *_rolling("STD", deviation, "close"),
    *_rolling("BETA", slope, "close"),
    *_rolling("RSQR", determination, "close"),
    *_rolling("RESI", residual, "close"),
    *_rolling("MAX", highest, "high", "close"),
    *_rolling("MIN", lowest, "low", "close"),
    *_rolling("QTLU", upper_quantile, "close"),
    *_rolling("QTLD", lower_quantile, "close"),
    *_rolling("RANK", rank, "close"),
    *_rolling("RSV", place_in_range, "high", "low", "close"),
    *_rolling("IMAX", place_of_highest, "high"),
    *_rolling("IMIN", place_of_lowest, "low"),
    *_rolling("IMXD", highest_after_lowest, "high", "low"),
    *_rolling("CORR", price_with_volume, "close", "volume"),
    *_rolling("CORD", changes_with_volume, "close", "volume", before=1),
    *_rolling("CNTP", rising_share, "close", before=1),
    *_rolling("CNTN", falling_share, "close", before=1),
    *_rolling("CNTD", rising_less_falling, "close", before=1),
    *_rolling("SUMP", gains, "close", before=1),
    *_rolling("SUMN", losses, "close", before=1),
    *_rolling("SUMD", gains_less_losses, "close", before=1),
    *_rolling("VMA", mean_volume, "volume"),
    *_rolling("VSTD", volume_deviation, "volume"),
    *_rolling("WVMA", weighted_volatility, "close", "volume", before=1),
    *_rolling("VSUMP", gains, "volume", before=1),
    *_rolling("VSUMN", losses, "volume", before=1),
    *_rolling("VSUMD", gains_less_losses, "volume", before=1),
)
"""The 158 features by their published names, in their published order."""
