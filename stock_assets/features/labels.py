"""Labels of the panel: the next session's close or log return, and forecasts further ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stock_assets.config import Target

FloatArray = NDArray[np.float64]


def session_labels(close: FloatArray, target: Target) -> FloatArray:
    """Label every row with the session after it.

    Parameters
    ----------
    close : (T, N) float64
        Closes adjusted for all corporate actions, NaN where missing.
    target : Target
        ``log_return``: logarithm of the next close over this one; ``close``: the next close.

    Returns
    -------
    (T, N) float64
        Row t is the first label of the window that ends at t. NaN where either close is missing,
        and so in the last row.
    """
    later = np.full_like(close, np.nan)
    later[:-1] = close[1:]
    if target == "log_return":
        return np.log(later / close)
    return np.where(np.isfinite(close), later, np.nan)


def cumulate_steps(steps: FloatArray, target: Target) -> FloatArray:
    """Turn one-session steps into labels or forecasts of 1 to H sessions ahead.

    The log return over h sessions is the sum of the first h returns. A close needs no sum. Scaling
    about zero commutes with sums, so a scaler of returns may be inverted before or after.

    Parameters
    ----------
    steps : (B, H, N) float
        Row h is session h + 1 after a window: labels from :func:`session_labels`, or forecasts of
        them.
    target : Target
        What the steps are.

    Returns
    -------
    (B, H, N) float
        Row h is h + 1 sessions ahead: the log return since the window's end, or the close. NaN
        where a step of the sum is NaN.
    """
    return steps.cumsum(axis=1) if target == "log_return" else steps


def later_targets(
    close: FloatArray, ends: NDArray[np.integer[Any]], horizon: int, target: Target
) -> FloatArray:
    """Return what a forecast as of each of some sessions is about, 1 to H sessions ahead.

    Parameters
    ----------
    close : (T, N) float64
        Closes adjusted for all corporate actions, NaN where missing.
    ends : (B,) int
        Positions of the sessions.
    horizon : int
        H.
    target : Target

    Returns
    -------
    (B, H, N) float64
        The log return since the session, or the close; NaN where a close is missing or later than
        the last.
    """
    steps = np.arange(1, horizon + 1)
    later = np.pad(close, ((0, horizon), (0, 0)), constant_values=np.nan)
    closes: FloatArray = later[ends[:, np.newaxis] + steps]
    return np.log(closes / close[ends, np.newaxis]) if target == "log_return" else closes
