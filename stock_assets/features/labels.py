"""What a window is to foretell, session by session: the close, or the return up to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stock_assets.config import Target

FloatArray = NDArray[np.float64]


def targets(close: FloatArray, target: Target) -> FloatArray:
    """Label every row with what the session after it does.

    Parameters
    ----------
    close : (T, N) float64
        Closes with all events taken out, NaN where there is none.
    target : Target
        ``log_return``: logarithm of the next close over this one; ``close``: the next close.

    Returns
    -------
    (T, N) float64
        Row t is the first label of the window that ends at t: the close of session ``t + 1``, or
        the return from t to it. NaN where either close is missing, so also in the last row.
    """
    later = np.full_like(close, np.nan)
    later[:-1] = close[1:]
    if target == "log_return":
        return np.log(later / close)
    return np.where(np.isfinite(close), later, np.nan)


def cumulated(steps: FloatArray, target: Target) -> FloatArray:
    """Lead from forecasts of one session after the other to forecasts of 1 to H sessions ahead.

    Returns add up, so the return over h sessions is the sum of the first h. A level is that of its
    own session and stays as it is. Scaling about zero changes no sum: a scaler of returns may be
    undone before or after.

    Parameters
    ----------
    steps : (B, H, N) float
        Row h is what session h + 1 after a window does: labels as `targets` gives them, or
        forecasts of them.
    target : Target
        What they are.

    Returns
    -------
    (B, H, N) float
        Row h reaches h + 1 sessions ahead: the log return from the window's end, or the close. A
        sum is NaN where a step on the way is.
    """
    return steps.cumsum(axis=1) if target == "log_return" else steps
