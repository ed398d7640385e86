"""Shrinkage of forecast moves towards no change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stock_assets.evaluation.significance import diebold_mariano

FloatArray = NDArray[np.float64]


def fit_shrinkage(forecast: FloatArray, actual: FloatArray, horizon: int = 1) -> float:
    """Fit the factor in [0, 1] by which forecast moves are multiplied.

    The factor with the least absolute error, all tickers together, times ``t**2 / (1 + t**2)``,
    where t is the statistic of its gain over no change (a session is one observation; see
    :func:`stock_assets.evaluation.significance.diebold_mariano`). Without a gain, or where the
    statistic is undefined, it is 0: the data do not distinguish the factor from 0.

    Parameters
    ----------
    forecast, actual : (S, N) float64
        Moves from the last price, in one unit; NaN where one is unknown.
    horizon : int
        Sessions ahead.
    """
    known = np.isfinite(forecast) & np.isfinite(actual)
    factor = _least_absolute_error(forecast[known], actual[known])
    some = known.any(axis=1)
    gain = np.where(known, np.abs(actual - factor * forecast) - np.abs(actual), np.nan)[some]
    statistic = diebold_mariano(np.nanmean(gain, axis=1), horizon).statistic if factor else None
    if statistic is None or statistic >= 0:
        return 0.0
    return float(factor * statistic**2 / (1 + statistic**2))


def _least_absolute_error(forecast: FloatArray, actual: FloatArray) -> float:
    """Return the factor in [0, 1]: the median of the ratios, weighted by the forecast moves."""
    moving = forecast != 0
    weights = np.abs(forecast[moving])
    if not weights.size:
        return 0.0
    ratios = actual[moving] / forecast[moving]
    order = np.argsort(ratios, kind="stable")
    below = np.cumsum(weights[order])
    median = ratios[order][np.searchsorted(below, below[-1] / 2)]
    return float(np.clip(median, 0.0, 1.0))
