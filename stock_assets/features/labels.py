"""Labels of the panel: the next session's close or log return, and forecasts further ahead."""

from __future__ import annotations

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
