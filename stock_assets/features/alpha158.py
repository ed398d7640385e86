"""Qlib's Alpha158: 158 price and volume features of one ticker.

Names, order and formulae follow ``Alpha158DL`` in Microsoft's Qlib
(``qlib/contrib/data/loader.py``, operators in ``qlib/data/ops.py``). They differ from Qlib where
the rules of :mod:`stock_assets.features.formulas` require it:

- An incomplete window has no value. Qlib returns the value of a shorter window.
- ``VWAP0`` uses the typical price, because daily bars have no VWAP.
- Qlib adds 1e-12 to divisors that may be 0. Here such a quotient is 0, the same value without the
  bias. A correlation or R squared with a constant is 0; Qlib returns NaN.
- ``VMA`` and ``VSTD`` treat a session with less than 0.1% of the window's mean volume as having
  0.1% of it. ``CORD`` treats volume after a session without volume as unchanged.
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
    lag,
    ratio,
    rolling_mean,
    rolling_std,
    rolling_sum,
    trailing_windows,
    typical_price,
)

WINDOWS = (5, 10, 20, 30, 60)


def _over_range(amount: FloatArray, high: FloatArray, low: FloatArray) -> FloatArray:
    """Divide by the range of the session; 0 where the session has none."""
    return ratio(amount, high - low, neutral=0.0)


def _sample_std(values: FloatArray, window: int) -> FloatArray:
    """Sample standard deviation of each window."""
    return rolling_std(values, window) / math.sqrt(1.0 - 1.0 / window)


def _time_variation(window: int) -> float:
    """Sum of squared deviations of 0 ... window - 1 from their mean."""
    return window * (window**2 - 1) / 12.0


def _slope(offsets: FloatArray) -> FloatArray:
    """Least-squares slope against time of windows of shape (window, rows)."""
    window = len(offsets)
    time = np.arange(window, dtype=np.float64) - (window - 1) / 2.0
    slope: FloatArray = reduce(np.add, time[:, np.newaxis] * offsets) / _time_variation(window)
    return slope


def _r_squared(close: FloatArray, window: int) -> FloatArray:
    """R squared of a least-squares line through the closes."""
    offsets = trailing_windows(close, window) - close
    explained = np.square(_slope(offsets)) * _time_variation(window)
    deviations = offsets - reduce(np.add, offsets) / window
    return ratio(explained, reduce(np.add, np.square(deviations)), neutral=0.0)


def _residual(close: FloatArray, window: int) -> FloatArray:
    """Close minus the last fitted value of a least-squares line, over the close."""
    offsets = trailing_windows(close, window) - close
    end = reduce(np.add, offsets) / window + _slope(offsets) * (window - 1) / 2.0
    residual: FloatArray = -end / close
    return residual


def _quantile(values: FloatArray, window: int, share: float) -> FloatArray:
    """Quantile of each window, by linear interpolation."""
    ordered = np.sort(trailing_windows(values, window), axis=0)
    place = share * (window - 1)
    below = int(place)
    lower, upper = ordered[below], ordered[below + 1]
    quantile: FloatArray = lower + (upper - lower) * (place - below)
    return quantile


def _rank(close: FloatArray, window: int) -> FloatArray:
    """Percentile rank of the newest close in its window; ties share their mean rank."""
    closes = trailing_windows(close, window)
    below = reduce(np.add, (closes < close).astype(np.float64))
    equal = reduce(np.add, (closes == close).astype(np.float64))
    rank: FloatArray = (below + (equal + 1.0) / 2.0) / window
    return rank


def _place_in_range(
    high: FloatArray, low: FloatArray, close: FloatArray, window: int
) -> FloatArray:
    """Close between the lowest low (0) and the highest high (1) of the window."""
    lowest = talib.MIN(low, window)
    return _over_range(close - lowest, talib.MAX(high, window), lowest)


def _argmax(values: FloatArray, window: int) -> FloatArray:
    """Position of the first maximum over the window length; 1 is the newest session."""
    position: FloatArray = (trailing_windows(values, window).T.argmax(axis=1) + 1.0) / window
    return position


def _argmin(values: FloatArray, window: int) -> FloatArray:
    """Position of the first minimum over the window length; 1 is the newest session."""
    position: FloatArray = (trailing_windows(values, window).T.argmin(axis=1) + 1.0) / window
    return position


def _correlation(left: FloatArray, right: FloatArray, window: int) -> FloatArray:
    """Pearson correlation in each window; 0 where a series is constant."""
    # Relative to the newest value, a constant series gives exact zeros, without rounding errors.
    lefts, rights = trailing_windows(left, window) - left, trailing_windows(right, window) - right
    lefts -= reduce(np.add, lefts) / window
    rights -= reduce(np.add, rights) / window
    size = np.sqrt(reduce(np.add, np.square(lefts))) * np.sqrt(reduce(np.add, np.square(rights)))
    return ratio(reduce(np.add, lefts * rights), size, neutral=0.0)


def _change_correlation(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Correlation of relative price changes with log(1 + relative volume changes)."""
    traded = ratio(volume, lag(volume, 1), neutral=1.0)
    return _correlation(close / lag(close, 1), np.log(traded + 1.0), window)


def _rising(close: FloatArray, window: int) -> FloatArray:
    """Share of sessions with a higher close than the session before."""
    return rolling_mean((close > lag(close, 1)).astype(np.float64), window)


def _falling(close: FloatArray, window: int) -> FloatArray:
    """Share of sessions with a lower close than the session before."""
    return rolling_mean((close < lag(close, 1)).astype(np.float64), window)


def _share_of_moves(part: Callable[[FloatArray], FloatArray]) -> Callable[..., FloatArray]:
    """Sum a part of the changes, over the sum of all absolute changes."""

    def share(values: FloatArray, window: int) -> FloatArray:
        moves = values - lag(values, 1)
        return ratio(
            rolling_sum(part(moves), window), rolling_sum(np.abs(moves), window), neutral=0.0
        )

    return share


_gains = _share_of_moves(lambda moves: np.maximum(moves, 0.0))
_losses = _share_of_moves(lambda moves: np.maximum(-moves, 0.0))
_net_gains = _share_of_moves(lambda moves: moves)


def _mean_volume(volume: FloatArray, window: int) -> FloatArray:
    """Mean volume over the newest volume."""
    mean = rolling_mean(volume, window)
    return ratio(mean, np.maximum(volume, LEAST_RELATIVE_VOLUME * mean), neutral=1.0)


def _volume_std(volume: FloatArray, window: int) -> FloatArray:
    """Sample standard deviation of volume over the newest volume."""
    least = LEAST_RELATIVE_VOLUME * rolling_mean(volume, window)
    return ratio(_sample_std(volume, window), np.maximum(volume, least), neutral=0.0)


def _weighted_volatility(close: FloatArray, volume: FloatArray, window: int) -> FloatArray:
    """Coefficient of variation of absolute return times volume."""
    weighted = np.abs(close / lag(close, 1) - 1.0) * volume
    return ratio(_sample_std(weighted, window), rolling_mean(weighted, window), neutral=0.0)


def _bar(name: str, inputs: str, formula: Callable[..., FloatArray]) -> Feature:
    """Declare a feature of a single bar."""
    return Feature(name, "alpha158", formula, tuple(inputs.split()), scale_free=True)


def _rolling(
    family: str,
    inputs: str,
    formula: Callable[..., FloatArray],
    before: int = 0,
    scale_free: bool = True,
) -> tuple[Feature, ...]:
    """Declare a family over all windows; each reads `before` bars before its window too."""
    columns = tuple(inputs.split())
    return tuple(
        Feature(
            f"{family}{window}",
            "alpha158",
            formula,
            columns,
            window,
            window - 1 + before,
            scale_free=scale_free,
        )
        for window in WINDOWS
    )


# o, hi, lo, c, v: open, high, low, close and volume; n: the window.
ALPHA158 = (
    _bar("KMID", "open close", lambda o, c: (c - o) / o),
    _bar("KLEN", "open high low", lambda o, hi, lo: (hi - lo) / o),
    _bar("KMID2", "open high low close", lambda o, hi, lo, c: _over_range(c - o, hi, lo)),
    _bar("KUP", "open high close", lambda o, hi, c: (hi - np.maximum(o, c)) / o),
    _bar(
        "KUP2",
        "open high low close",
        lambda o, hi, lo, c: _over_range(hi - np.maximum(o, c), hi, lo),
    ),
    _bar("KLOW", "open low close", lambda o, lo, c: (np.minimum(o, c) - lo) / o),
    _bar(
        "KLOW2",
        "open high low close",
        lambda o, hi, lo, c: _over_range(np.minimum(o, c) - lo, hi, lo),
    ),
    _bar("KSFT", "open high low close", lambda o, hi, lo, c: (2.0 * c - hi - lo) / o),
    _bar("KSFT2", "high low close", lambda hi, lo, c: _over_range(2.0 * c - hi - lo, hi, lo)),
    _bar("OPEN0", "open close", np.divide),
    _bar("HIGH0", "high close", np.divide),
    _bar("LOW0", "low close", np.divide),
    _bar("VWAP0", "high low close", lambda hi, lo, c: typical_price(hi, lo, c) / c),
    *_rolling("ROC", "close", lambda c, n: lag(c, n) / c, before=1),
    *_rolling("MA", "close", lambda c, n: rolling_mean(c, n) / c),
    *_rolling("STD", "close", lambda c, n: _sample_std(c, n) / c),
    *_rolling("BETA", "close", lambda c, n: _slope(trailing_windows(c, n) - c) / c),
    *_rolling("RSQR", "close", _r_squared),
    *_rolling("RESI", "close", _residual),
    *_rolling("MAX", "high close", lambda hi, c, n: talib.MAX(hi, n) / c),
    *_rolling("MIN", "low close", lambda lo, c, n: talib.MIN(lo, n) / c),
    *_rolling("QTLU", "close", lambda c, n: _quantile(c, n, 0.8) / c),
    *_rolling("QTLD", "close", lambda c, n: _quantile(c, n, 0.2) / c),
    *_rolling("RANK", "close", _rank),
    *_rolling("RSV", "high low close", _place_in_range),
    *_rolling("IMAX", "high", _argmax),
    *_rolling("IMIN", "low", _argmin),
    *_rolling("IMXD", "high low", lambda hi, lo, n: _argmax(hi, n) - _argmin(lo, n)),
    # Adding 1 to volume depends on its unit, so this family alone is not scale free.
    *_rolling(
        "CORR",
        "close volume",
        lambda c, v, n: _correlation(c, np.log(v + 1.0), n),
        scale_free=False,
    ),
    *_rolling("CORD", "close volume", _change_correlation, before=1),
    *_rolling("CNTP", "close", _rising, before=1),
    *_rolling("CNTN", "close", _falling, before=1),
    *_rolling("CNTD", "close", lambda c, n: _rising(c, n) - _falling(c, n), before=1),
    *_rolling("SUMP", "close", _gains, before=1),
    *_rolling("SUMN", "close", _losses, before=1),
    *_rolling("SUMD", "close", _net_gains, before=1),
    *_rolling("VMA", "volume", _mean_volume),
    *_rolling("VSTD", "volume", _volume_std),
    *_rolling("WVMA", "close volume", _weighted_volatility, before=1),
    *_rolling("VSUMP", "volume", _gains, before=1),
    *_rolling("VSUMN", "volume", _losses, before=1),
    *_rolling("VSUMD", "volume", _net_gains, before=1),
)
"""The 158 features, under their published names and in their published order."""
