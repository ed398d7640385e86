"""Tests of whether a difference between forecasts is more than chance.

Tickers move together, so forecasts of one session are not independent: a session is one
observation, however many tickers it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.evaluation.metrics import CONSTANT

FEWEST_SESSIONS = 8
"""Fewest sessions of a test: the smallest sample in Harvey, Leybourne and Newbold (1997)."""

DEFAULT_LEVEL = 0.05
"""Probability below which a difference is significant, unless the parameters set another."""


def clustered_errors(
    influence: pd.Series[float], session: pd.Series[Any], by: pd.Series[Any], horizon: int = 1
) -> pd.Series[float]:
    """Compute the standard error of each group's mean, or of a statistic linear to first order.

    With ``u`` the influences, ``N`` of them in ``G`` sessions, one session ahead::

        sqrt(G / (G - 1) * sum over sessions of (sum of u in the session)**2) / N

    This is the cluster-robust error of the constant in a regression on a constant (Liang and Zeger
    1986, "Longitudinal data analysis using generalized linear models", Biometrika 73), with the
    small-sample factor of Cameron, Gelbach and Miller 2011, "Robust inference with multiway
    clustering", J. Business & Economic Statistics 29, which for one coefficient is ``G / (G - 1)``.
    Forecasts further ahead overlap, so the products of sessions less than `horizon` apart are
    added, with the correction of `diebold_mariano`; the autocovariances of the sums over tickers
    follow Driscoll and Kraay 1998, "Consistent covariance matrix estimation with spatially
    dependent panel data", Review of Economics and Statistics 80.

    Parameters
    ----------
    influence : Series
        The influence of each forecast on its group's statistic; for a mean, its deviation from it;
        NaN for a forecast to ignore. They add up to zero in each group; the result has their unit.
    session, by : Series
        The session and the group of each, on the index of `influence`.
    horizon : int
        The most sessions ahead that were forecast.

    Returns
    -------
    Series of float64
        Indexed by group; NaN with fewer than two sessions per session ahead, or where the estimate
        of the variance is negative.
    """
    sums = influence.groupby([session, by]).sum(min_count=1).unstack()
    variance = _variance_of_sum(sums, horizon)
    return variance.where(variance >= 0) ** 0.5 / influence.groupby(by).count()


def loss_difference(rows: pd.DataFrame, reference: pd.DataFrame) -> pd.Series[float]:
    """Compute, per session, by how much a model's loss exceeds another's on the same forecasts.

    The loss is that of relative MAE: the absolute error as a fraction of the last close, averaged
    over the tickers and horizons of a target session.

    Parameters
    ----------
    rows, reference : DataFrame
        Scored forecasts of the same (session, ticker, horizon) triples.

    Returns
    -------
    Series of float64
        Indexed by session, oldest first; negative where the model is the better one.
    """
    own, other = (_losses(scored).groupby(scored["session"]).mean() for scored in (rows, reference))
    return own - other


def loss_differences(rows: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Compute the loss difference per session and ticker, averaged over the horizons.

    Returns
    -------
    DataFrame of float64
        One row per session, oldest first, one column per ticker, in alphabetical order; NaN where
        there is no forecast.
    """
    own, other = (
        scored.assign(loss=_losses(scored)).pivot_table("loss", "session", "ticker")
        for scored in (rows, reference)
    )
    return own - other


def _losses(rows: pd.DataFrame) -> pd.Series[float]:
    return rows["absolute_error"] / rows["persistence"]


@dataclass(frozen=True)
class DieboldMariano:
    """The result of a test for equal accuracy.

    Attributes
    ----------
    difference : float
        Mean loss difference per session, a fraction of price; negative is better than the
        reference.
    sessions : int
        Number of observations.
    statistic, p_value : float or None
        Student's t and its two-sided p-value; None where the test is undefined.
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


class Edge(StrEnum):
    """How a model compares with forecasting no change."""

    BETTER = "better"
    WORSE = "worse"
    NONE = "none"
    UNDEFINED = "undefined"


def edge_over_persistence(
    test: DieboldMariano, relative_mae: float | None, level: float | None
) -> Edge:
    """Decide whether a model differs significantly from forecasting no change.

    Parameters
    ----------
    test : DieboldMariano
        Against persistence; every session counts once.
    relative_mae : float or None
        Of the same forecasts; every forecast counts once. Where sessions have unequal numbers of
        forecasts the two may disagree, and then nothing is called significant.
    level : float or None
        Probability below which a difference is significant; `DEFAULT_LEVEL` where it is None.
    """
    if test.p_value is None or relative_mae is None or math.isnan(relative_mae):
        return Edge.UNDEFINED
    level = level or DEFAULT_LEVEL
    if test.better(level) and relative_mae < 1:
        return Edge.BETTER
    return Edge.WORSE if test.worse(level) and relative_mae > 1 else Edge.NONE


def diebold_mariano(differences: NDArray[np.floating[Any]], horizon: int = 1) -> DieboldMariano:
    """Test whether two forecasts are equally accurate.

    The statistic of Diebold and Mariano 1995 ("Comparing predictive accuracy", J. Business &
    Economic Statistics 13): the mean loss difference over its standard error, with the
    autocovariances of forecasts that overlap. It is corrected and compared with Student's t with
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
    tests = diebold_mariano_tests(pd.DataFrame({"": differences}), horizon)
    difference, sessions, statistic, p_value, reason = next(tests.itertuples(index=False))
    if reason:
        return DieboldMariano(difference, sessions, None, None, reason)
    return DieboldMariano(difference, sessions, statistic, p_value)


def diebold_mariano_tests(differences: pd.DataFrame, horizon: int = 1) -> pd.DataFrame:
    """Test each column separately.

    Parameters
    ----------
    differences : DataFrame
        Loss differences by session, oldest first, as from `loss_differences`; NaN where a column
        has none.
    horizon : int
        As for `diebold_mariano`.

    Returns
    -------
    DataFrame
        The fields of `DieboldMariano`, one row per column; NaN in place of None.
    """
    from scipy.special import stdtr

    count, mean = differences.count(), differences.mean()
    variance, reason = _tested_variance(differences, horizon)
    statistic = (mean * count / variance**0.5).rename("statistic")
    return pd.DataFrame(
        {
            "difference": mean,
            "sessions": count,
            "statistic": statistic,
            "p_value": 2 * stdtr(count - 1, -statistic.abs()),
            "reason": reason,
        }
    )


def _tested_variance(
    differences: pd.DataFrame, horizon: int
) -> tuple[pd.Series[float], NDArray[np.str_]]:
    """Compute the variance of each column's sum; NaN where the test is undefined, with a reason."""
    count, mean = differences.count(), differences.mean()
    deviations = differences - mean
    variance, spread = _variance_of_sum(deviations, horizon), deviations.abs().max()
    fewest = max(FEWEST_SESSIONS, 2 * horizon)
    reason = np.select(
        [
            count < fewest,
            np.maximum(spread, mean.abs()) < CONSTANT,
            spread < CONSTANT,
            variance <= 0,
        ],
        [
            count.map(f"{{}} sessions are fewer than {fewest}".format),
            "their losses are equal in every session",
            "their difference is constant in every session",
            "the variance of overlapping forecasts is not positive",
        ],
        "",
    )
    return variance.where(reason == ""), reason


def newey_west(differences: NDArray[np.floating[Any]], lags: int) -> tuple[float, float]:
    """Test whether a mean is zero when neighbours are correlated, by any cause.

    The variance adds up autocovariances with weights that fall linearly to zero (Newey and West
    1987, "A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent
    covariance matrix", Econometrica 55).

    Parameters
    ----------
    differences : ndarray (n,)
        One per session, oldest first.
    lags : int
        Sessions over which the weights fall to zero.

    Returns
    -------
    float, float
        The statistic and its two-sided p-value; NaN where the differences are constant. The
        variance is too small and uncertain where the lags are many for the sessions: with ``b``
        their share, the statistic is first multiplied by the root of ``1 - b + b**2 / 3``, the
        expected share of the variance, and has Student's t with ``1.5 / b`` degrees of freedom, at
        most ``n - 1`` (Sun 2014, "Let's fix it: Fixed-b asymptotics versus small-b asymptotics in
        heteroskedasticity and autocorrelation robust inference", J. Econometrics 178).
    """
    from scipy.special import stdtr

    count, mean = len(differences), float(differences.mean())
    deviations = differences - mean
    products = float(deviations @ deviations)
    lags = min(lags, count - 1)
    for lag in range(1, lags + 1):
        products += 2 * (1 - lag / (lags + 1)) * float(deviations[lag:] @ deviations[:-lag])
    if products <= count * CONSTANT**2:
        return math.nan, math.nan
    statistic, share = mean * count / math.sqrt(products), (lags + 1) / count
    corrected = abs(statistic) * math.sqrt(1 - share + share**2 / 3)
    return statistic, float(2 * stdtr(min(count - 1, 1.5 / share), -corrected))


def cumulative_difference(
    differences: pd.Series[float], horizon: int = 1, confidence: float = 0.95
) -> pd.DataFrame:
    """Sum loss differences over the sessions, with a confidence band.

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
        ``cumulative``, ``lower`` and ``upper``, indexed by session; the bounds are NaN where the
        test is undefined.
    """
    from scipy.special import stdtrit

    count, total = len(differences), differences.cumsum()
    variance = _tested_variance(differences.to_frame(), horizon)[0].item()
    part = np.arange(1, count + 1) / count
    width = stdtrit(count - 1, (1 + confidence) / 2) * np.sqrt(variance * part)
    return pd.DataFrame({"cumulative": total, "lower": total - width, "upper": total + width})


def _variance_of_sum(deviations: pd.DataFrame, horizon: int) -> pd.Series[float]:
    """Compute the variance of the sum of each column of deviations from its mean by session.

    Each session has covariances with the ``horizon - 1`` after it; the sum of all of them, which
    may be negative, is corrected as by Harvey, Leybourne and Newbold. A session that a column lacks
    adds nothing. NaN with fewer than two sessions per session of the horizon.
    """
    count, added = deviations.count(), deviations.fillna(0.0).to_numpy()
    products = (added**2).sum(axis=0)
    for lag in range(1, horizon):
        products += 2 * (added[lag:] * added[:-lag]).sum(axis=0)
    correction = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    variance: pd.Series[float] = products / correction
    return variance.where(count >= 2 * horizon)
