"""Standard errors of pooled scores, and information coefficients within sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from stock_assets.evaluation.metrics import CONSTANT, correlations, one_group, relative_returns
from stock_assets.evaluation.significance import clustered_errors


@dataclass(frozen=True)
class Skill:
    """Standard errors of pooled scores, clustered by session, and the skill within sessions.

    Every number is NaN where it is undefined.

    Attributes
    ----------
    error_difference, error_difference_se : float
        Mean over all forecasts of the absolute error minus persistence's, as fractions of the last
        close: below 0 is better than no change; and its standard error.
    relative_mae_se, direction_accuracy_se, ic_se, coverage_se : float
        Standard errors of the scores of the same names in
        :class:`stock_assets.evaluation.metrics.Metrics`.
    session_ic, session_ic_se, icir : float
        Information coefficient of each session and horizon over the tickers: mean, standard error
        of that mean, and mean over standard deviation (ICIR; Qian and Hua 2004, "Active risk and
        information ratio", J. Investment Management 2; not annualised).
    session_rank_ic, session_rank_ic_se, rank_icir : float
        The same of ranks.
    ic_sessions : int
        Sessions with an information coefficient, see `session_ics`. With one ticker, or one
        forecast for all tickers, there are none and the six numbers above are NaN.
    """

    error_difference: float
    error_difference_se: float
    relative_mae_se: float
    direction_accuracy_se: float
    ic_se: float
    coverage_se: float
    session_ic: float
    session_ic_se: float
    icir: float
    session_rank_ic: float
    session_rank_ic_se: float
    rank_icir: float
    ic_sessions: int


def measure_skill(rows: pd.DataFrame) -> Skill:
    """Compute the skill of scored forecasts.

    Parameters
    ----------
    rows : DataFrame
        From :func:`stock_assets.evaluation.metrics.score_rows`; their order does not matter.
    """
    (errors,) = standard_errors(rows, one_group(rows)).to_dict("records")
    horizon = int(rows["horizon"].max())
    ics = session_ics(rows)
    ic, ic_se, icir = _over_sessions(ics["ic"], horizon)
    rank_ic, rank_ic_se, rank_icir = _over_sessions(ics["rank_ic"], horizon)
    return Skill(
        **{str(name): value for name, value in errors.items()},
        session_ic=ic,
        session_ic_se=ic_se,
        icir=icir,
        session_rank_ic=rank_ic,
        session_rank_ic_se=rank_ic_se,
        rank_icir=rank_icir,
        ic_sessions=ics.dropna().index.get_level_values("session").nunique(),
    )


def standard_errors(rows: pd.DataFrame, by: pd.Series[Any]) -> pd.DataFrame:
    """Compute the standard errors of the scores of each group.

    Parameters
    ----------
    rows : DataFrame
        From :func:`stock_assets.evaluation.metrics.score_rows`; their order does not matter.
    by : Series
        The group of each row.

    Returns
    -------
    DataFrame
        The fields of `Skill` up to ``coverage_se``, one row per group, in order of the groups.
    """
    horizon, session = int(rows["horizon"].max()), rows["session"]
    loss = rows["absolute_error"] / rows["persistence"]
    persistence = rows["persistence_absolute_error"] / rows["persistence"]
    return pd.DataFrame(
        {
            "error_difference": (loss - persistence).groupby(by).mean(),
            "error_difference_se": _mean_errors(loss - persistence, session, by, horizon),
            "relative_mae_se": _ratio_errors(loss, persistence, session, by, horizon),
            "direction_accuracy_se": _mean_errors(rows["direction_hit"], session, by, horizon),
            "ic_se": _correlation_errors(relative_returns(rows), session, by, horizon),
            "coverage_se": _mean_errors(rows["covered"], session, by, horizon),
        }
    )


def session_ics(rows: pd.DataFrame) -> pd.DataFrame:
    """Correlate predicted and actual returns across the tickers of each session and horizon.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts.

    Returns
    -------
    DataFrame
        ``ic`` (Pearson) and ``rank_ic`` (Spearman), indexed by session and horizon, oldest first.
        NaN where there is one ticker, or one predicted or actual return for all tickers. Over two
        tickers both are 1 or -1.
    """
    moves, section = relative_returns(rows), [rows["session"], rows["horizon"]]
    ranks = moves.groupby(section).rank()
    return pd.DataFrame(
        {"ic": correlations(moves, section), "rank_ic": correlations(ranks, section)}
    )


def _over_sessions(values: pd.Series[float], horizon: int) -> tuple[float, float, float]:
    """Return the mean of values by session, its standard error, and mean over deviation."""
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    if not deviation > CONSTANT:
        return mean, float("nan"), float("nan")
    session = values.index.get_level_values("session").to_series(index=values.index)
    error = _mean_errors(values, session, one_group(values), horizon).item()
    return mean, error, mean / deviation


def _mean_errors(
    values: pd.Series[float], session: pd.Series[Any], by: pd.Series[Any], horizon: int
) -> pd.Series[float]:
    """Compute the standard error of each group's mean; undefined values are ignored."""
    return clustered_errors(values - values.groupby(by).transform("mean"), session, by, horizon)


def _ratio_errors(
    above: pd.Series[float],
    below: pd.Series[float],
    session: pd.Series[Any],
    by: pd.Series[Any],
    horizon: int,
) -> pd.Series[float]:
    """Compute the standard error of each ``sum(above) / sum(below)``, to first order."""
    means = [part.groupby(by).transform("mean") for part in (above, below)]
    influence = (above - means[0] / means[1] * below) / means[1]
    error = clustered_errors(influence, session, by, horizon)
    return error.where(below.groupby(by).mean() > 0)


def _correlation_errors(
    moves: pd.DataFrame, session: pd.Series[Any], by: pd.Series[Any], horizon: int
) -> pd.Series[float]:
    """Compute the standard error of Pearson's correlation r in each group, to first order.

    The influence of a pair of standardised values is ``x * y - r * (x**2 + y**2) / 2`` (Devlin,
    Gnanadesikan and Kettenring 1975, "Robust estimation and outlier detection with correlation
    coefficients", Biometrika 62).
    """
    centred = moves - moves.groupby(by).transform("mean")
    spread = (centred**2).groupby(by).transform("mean") ** 0.5
    standard = (centred / spread).where(spread.min(axis=1) >= CONSTANT)
    product = standard["predicted"] * standard["actual"]
    squares = (standard**2).sum(axis=1)
    influence = product - product.groupby(by).transform("mean") * squares / 2
    return clustered_errors(influence, session, by, horizon)
