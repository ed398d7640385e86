"""Whether a difference between forecasts is more than chance.

Tickers move together, so forecasts of one session are not independent of each other: here a session
is one observation, however many tickers it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from stock_assets.evaluation.metrics import CONSTANT

FEWEST_SESSIONS = 8
"""Sessions that a test needs: the smallest sample in Harvey, Leybourne and Newbold (1997)."""


def clustered_error(
    influence: NDArray[np.floating[Any]], sessions: NDArray[np.generic], horizon: int = 1
) -> float:
    """Give the standard error of a mean, or of a statistic that is one to first order.

    With ``u`` the influences, ``N`` of them in ``G`` sessions, one session ahead::

        sqrt(G / (G - 1) * sum over sessions of (sum of u in the session)**2) / N

    This is the cluster-robust error of the constant in a regression on nothing else (Liang and
    Zeger 1986, "Longitudinal data analysis using generalized linear models", Biometrika 73), with
    the small-sample factor of Cameron, Gelbach and Miller 2011, "Robust inference with multiway
    clustering", J. Business & Economic Statistics 29, which for one coefficient is ``G / (G - 1)``.
    Forecasts further ahead share sessions with those of their neighbours. The products of sessions
    that are less than `horizon` apart are then added, as by `diebold_mariano` and with its
    correction; the autocovariances of the sums over tickers are the idea of Driscoll and Kraay
    1998, "Consistent covariance matrix estimation with spatially dependent panel data", Review of
    Economics and Statistics 80.

    Parameters
    ----------
    influence : ndarray (N,)
        What each forecast adds to the error of the statistic; for a mean, its deviation from it.
        They add up to zero, and the result has their unit.
    sessions : ndarray (N,)
        The session of each.
    horizon : int
        The most sessions ahead that were forecast.

    Returns
    -------
    float
        NaN with fewer than two sessions per session ahead, or where the estimate of the variance is
        negative.
    """
    _, cluster = np.unique(sessions, return_inverse=True)
    sums = np.bincount(cluster, weights=influence)
    variance = _variance_of_sum(sums, horizon)
    return float(np.sqrt(variance) / len(influence)) if variance >= 0 else float("nan")


def loss_difference(rows: pd.DataFrame, reference: pd.DataFrame) -> pd.Series[float]:
    """Give, per session, by how much a model's loss exceeds another's on the same forecasts.

    The loss is that of MASE, the absolute error as a fraction of the last close, averaged over the
    tickers and horizons of a target session.

    Parameters
    ----------
    rows, reference : DataFrame
        Scored forecasts of the same (session, ticker, horizon) triples.

    Returns
    -------
    Series of float64
        Indexed by session, oldest first; negative where the model is the better one.
    """
    own, other = (
        (scored["absolute_error"] / scored["persistence"]).groupby(scored["session"]).mean()
        for scored in (rows, reference)
    )
    return own - other


@dataclass(frozen=True)
class DieboldMariano:
    """The outcome of a test for equal accuracy.

    Attributes
    ----------
    difference : float
        Mean loss difference per session, a fraction of price; negative is better than the
        reference.
    sessions : int
        Observations there were.
    statistic, p_value : float or None
        Student's t and its two-sided probability if both are equally accurate; None where the test
        is undefined, with the `reason`.
    reason : str
        Why the test is undefined; empty where it is not.
    """

    difference: float
    sessions: int
    statistic: float | None
    p_value: float | None
    reason: str = ""

    def better(self, level: float) -> bool:
        """Whether the model has the lower loss, and the test rejects equality at a level."""
        return self.p_value is not None and self.difference < 0 and self.p_value < level

    def worse(self, level: float) -> bool:
        """Whether the model has the higher loss, and the test rejects equality at a level."""
        return self.p_value is not None and self.difference > 0 and self.p_value < level


def diebold_mariano(differences: NDArray[np.floating[Any]], horizon: int = 1) -> DieboldMariano:
    """Test whether two forecasts are equally accurate.

    The statistic of Diebold and Mariano 1995 ("Comparing predictive accuracy", J. Business &
    Economic Statistics 13): the mean loss difference over its standard error, with the
    autocovariances of forecasts that overlap. It is corrected and held against Student's t with
    ``n - 1`` degrees of freedom as by Harvey, Leybourne and Newbold 1997 ("Testing the equality of
    prediction mean squared errors", Int. J. Forecasting 13). With a horizon of one session that is
    the paired t-test.

    Parameters
    ----------
    differences : ndarray (n,)
        One loss difference per session, oldest first, as from `loss_difference`.
    horizon : int
        The most sessions ahead that were forecast: forecasts of as many neighbouring sessions
        overlap.
    """
    count = len(differences)
    mean = float(differences.mean()) if count else float("nan")
    fewest = max(FEWEST_SESSIONS, 2 * horizon)
    if count < fewest:
        return _undefined(mean, count, f"{count} sessions are fewer than {fewest}")
    deviations = differences - mean
    if np.abs(deviations).max() < CONSTANT:
        same = "their losses are equal" if abs(mean) < CONSTANT else "their difference is constant"
        return _undefined(mean, count, f"{same} in every session")
    variance = _variance_of_sum(deviations, horizon)
    if variance <= 0:
        return _undefined(mean, count, "the variance of overlapping forecasts is not positive")
    statistic = mean * count / np.sqrt(variance)
    p_value = 2 * stdtr(count - 1, -abs(statistic))
    return DieboldMariano(mean, count, float(statistic), float(p_value))


def cumulative_difference(
    differences: pd.Series[float], horizon: int = 1, confidence: float = 0.95
) -> pd.DataFrame:
    """Add loss differences up over the sessions, with the band of their clustered error.

    After ``t`` sessions the half width is the quantile of Student's t times ``s * sqrt(t)``. One
    session ahead, ``s`` is the standard deviation of the differences: a session is one observation;
    further ahead it counts the overlap of forecasts. At the last session the band excludes zero
    exactly when the Diebold-Mariano test of this horizon rejects at ``1 - confidence``.

    Parameters
    ----------
    differences : Series
        From `loss_difference`.
    horizon : int
        The most sessions ahead that were forecast.
    confidence : float
        Of the band, pointwise.

    Returns
    -------
    DataFrame
        ``cumulative``, ``lower`` and ``upper``, indexed by session; the bounds are NaN where there
        are fewer than two sessions per session ahead, or the variance is not positive.
    """
    count, total = len(differences), differences.cumsum()
    variance = _variance_of_sum((differences - differences.mean()).to_numpy(), horizon)
    width = np.full(count, np.nan)
    if variance >= 0:
        part = np.arange(1, count + 1) / count
        width = stdtrit(count - 1, (1 + confidence) / 2) * np.sqrt(variance * part)
    return pd.DataFrame({"cumulative": total, "lower": total - width, "upper": total + width})


def _variance_of_sum(deviations: NDArray[np.number[Any]], horizon: int) -> float:
    """Variance of the sum of what a number of sessions add, given as deviations from the mean.

    Each session has covariances with the ``horizon - 1`` after it; the sum of all of them, which
    may be negative, is corrected as by Harvey, Leybourne and Newbold. NaN with fewer than two
    sessions per session of the horizon.
    """
    count = len(deviations)
    if count < 2 * horizon:
        return float("nan")
    overlaps = [deviations[lag:] @ deviations[: count - lag] for lag in range(1, horizon)]
    correction = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    return float((deviations @ deviations + 2 * sum(overlaps)) / correction)


def _undefined(mean: float, count: int, reason: str) -> DieboldMariano:
    return DieboldMariano(mean, count, None, None, reason)
