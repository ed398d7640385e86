"""How sure pooled scores are, and how well forecasts rank the tickers of a session."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from stock_assets.evaluation.metrics import CONSTANT, correlations, relative_returns
from stock_assets.evaluation.significance import clustered_error


@dataclass(frozen=True)
class Skill:
    """Standard errors of pooled scores, clustered by session, and the skill within sessions.

    Every number is NaN where it is undefined.

    Attributes
    ----------
    error_difference, error_difference_se : float
        Mean over all forecasts of the absolute error minus persistence's, as fractions of the last
        close: below 0 is better than no change; and its standard error.
    mase_se, direction_accuracy_se, ic_se, coverage_se : float
        Standard errors of the scores of the same names in
        :class:`stock_assets.evaluation.metrics.Metrics`.
    session_ic, session_ic_se, icir : float
        Information coefficient of each session and horizon over the tickers: mean, standard error
        of that mean, and mean over standard deviation (ICIR; Grinold and Kahn 2000, "Active
        Portfolio Management", not annualised).
    session_rank_ic, session_rank_ic_se, rank_icir : float
        The same of ranks.
    ic_sessions : int
        Sessions that have an information coefficient, see `session_ics`. With one ticker, or a
        forecast that is the same for all, there are none and the six numbers above are NaN.
    """

    error_difference: float
    error_difference_se: float
    mase_se: float
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
    """Measure the skill of scored forecasts.

    Parameters
    ----------
    rows : DataFrame
        From :func:`stock_assets.evaluation.metrics.score_rows`; their order does not matter.
    """
    horizon = int(rows["horizon"].max())
    own = rows["absolute_error"] / rows["persistence"]
    idle = rows["persistence_absolute_error"] / rows["persistence"]
    decided = rows[rows["direction_hit"].notna()]
    bounded = rows[rows["covered"].notna()]
    ics = session_ics(rows).dropna()
    ic, ic_se, icir = _over_sessions(ics["ic"], horizon)
    rank_ic, rank_ic_se, rank_icir = _over_sessions(ics["rank_ic"], horizon)
    return Skill(
        error_difference=float((own - idle).mean()),
        error_difference_se=_mean_error(own - idle, rows["session"], horizon),
        mase_se=_ratio_error(own, idle, rows["session"], horizon),
        direction_accuracy_se=_mean_error(decided["direction_hit"], decided["session"], horizon),
        ic_se=_correlation_error(relative_returns(rows), rows["session"], horizon),
        coverage_se=_mean_error(bounded["covered"], bounded["session"], horizon),
        session_ic=ic,
        session_ic_se=ic_se,
        icir=icir,
        session_rank_ic=rank_ic,
        session_rank_ic_se=rank_ic_se,
        rank_icir=rank_icir,
        ic_sessions=ics.index.get_level_values("session").nunique(),
    )


def session_ics(rows: pd.DataFrame) -> pd.DataFrame:
    """Correlate predicted and actual returns over the tickers of each session and horizon.

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
    """Mean, its standard error, and mean over standard deviation, of values by session."""
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    if not deviation > CONSTANT:
        return mean, float("nan"), float("nan")
    session = values.index.get_level_values("session").to_series()
    return mean, _mean_error(values, session, horizon), mean / deviation


def _mean_error(values: pd.Series[float], session: pd.Series[pd.Timestamp], horizon: int) -> float:
    return clustered_error((values - values.mean()).to_numpy(), session.to_numpy(), horizon)


def _ratio_error(
    above: pd.Series[float],
    below: pd.Series[float],
    session: pd.Series[pd.Timestamp],
    horizon: int,
) -> float:
    """Error of ``sum(above) / sum(below)``, to first order."""
    if not below.mean() > 0:
        return float("nan")
    influence = (above - above.mean() / below.mean() * below) / below.mean()
    return clustered_error(influence.to_numpy(), session.to_numpy(), horizon)


def _correlation_error(
    moves: pd.DataFrame, session: pd.Series[pd.Timestamp], horizon: int
) -> float:
    """Error of Pearson's correlation r, to first order.

    The influence of a pair of standardised values is ``x * y - r * (x**2 + y**2) / 2`` (Devlin,
    Gnanadesikan and Kettenring 1975, "Robust estimation and outlier detection with correlation
    coefficients", Biometrika 62).
    """
    if moves.std(ddof=0).min() < CONSTANT:
        return float("nan")
    x, y = ((moves - moves.mean()) / moves.std(ddof=0)).to_numpy().T
    influence = x * y - (x * y).mean() * (x**2 + y**2) / 2
    return clustered_error(influence, session.to_numpy(), horizon)
