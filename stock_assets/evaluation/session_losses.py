"""One bounded number a session for the losses of two forecasters on the same forecasts.

Tickers move together, so a session is one observation. The loss is the absolute error as a fraction
of the last close, one session ahead: forecasts further ahead overlap, so their losses are not new
evidence in every session.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def relative_difference(
    losses: NDArray[np.floating], reference: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return ``(losses - reference) / (losses + reference)``, between -1 and 1; 0 where both are 0.

    Parameters
    ----------
    losses, reference : ndarray
        Not negative, of one shape: the summed losses of the two forecasters in a session. Their
        common scale, the volatility of the session, cancels.
    """
    total = losses + reference
    share = np.zeros(total.shape)
    np.divide(losses - reference, total, out=share, where=total != 0)
    return share


def session_differences(
    rows: pd.DataFrame, reference: pd.DataFrame | None = None
) -> pd.Series[float]:
    """Compute, per session, by how much a model's losses exceed another's, relative to their sum.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts, from `stock_assets.evaluation.metrics.score_rows`; only those one session
        ahead count.
    reference : DataFrame, optional
        Scored forecasts of another model; only the (session, ticker) pairs that both have count.
        Persistence, of the same rows, by default.

    Returns
    -------
    Series of float64
        Indexed by session, oldest first; between -1 and 1, negative where the model is better.
    """
    own = _losses(rows)
    if reference is None:
        near = rows[rows["horizon"] == 1].set_index(["session", "ticker"])
        other = near["persistence_absolute_error"] / near["persistence"]
    else:
        own, other = own.align(_losses(reference), join="inner")
    sums = pd.DataFrame({"own": own, "other": other}).groupby(level="session").sum()
    x = relative_difference(sums["own"].to_numpy(float), sums["other"].to_numpy(float))
    return pd.Series(x, sums.index, name="difference")


def session_numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Compute the numbers that the detectors of retraining read, one session ahead.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts of one model, with ``lower`` and ``upper``; NaN without an interval.

    Returns
    -------
    DataFrame of float64
        Indexed by session, oldest first: ``loss``, from `session_differences`, and ``above`` and
        ``below``, the shares of tickers whose price was above and below its interval; NaN in a
        session without intervals.
    """
    near = rows[rows["horizon"] == 1]
    known = near[["lower", "upper"]].notna().all(axis=1)
    misses = pd.DataFrame(
        {
            "above": (near["actual"] > near["upper"]).where(known),
            "below": (near["actual"] < near["lower"]).where(known),
        },
        dtype=float,
    )
    shares = misses.groupby(near["session"]).mean()
    return shares.assign(loss=session_differences(near))[["loss", "above", "below"]]


def _losses(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the loss of each forecast one session ahead, indexed by session and ticker."""
    near = rows[rows["horizon"] == 1].set_index(["session", "ticker"])
    losses: pd.Series[float] = near["absolute_error"] / near["persistence"]
    return losses
