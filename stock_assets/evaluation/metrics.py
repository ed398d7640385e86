"""Scores of forecasts against what happened and against persistence.

Persistence is the forecast of no change: tomorrow's close is today's. It is the reference for a
series that is close to a random walk, so every score is reported with its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stock_assets.core.errors import StockAssetsError

KEY = ("session", "ticker", "horizon")
"""Columns that identify a scored forecast of a model; the session is the target."""

PRICES = ("actual", "predicted", "persistence")

CONSTANT = 1e-12
"""Returns that differ by less than this are equal: the difference is a rounding error."""

_DECIMALS = 12


@dataclass(frozen=True)
class Metrics:
    """Scores of a set of forecasts; NaN where one is undefined.

    Attributes
    ----------
    forecasts : int
        Number of (session, ticker, horizon) triples.
    sessions : int
        Number of distinct target sessions.
    mae, rmse : float
        Mean absolute and root mean squared error, in currency.
    mape : float
        Mean of ``|error| / actual``, a fraction (as ``sklearn.metrics``).
    relative_mae : float
        Sum of ``|error| / persistence`` over the same sum for the persistence forecast: below 1 is
        better than no change. This is RelMAE of Hyndman and Koehler (2006, "Another look at
        measures of forecast accuracy", Int. J. Forecasting 22), of errors relative to the last
        close, so that the most expensive stock does not decide it. Undefined when no price moved.
    direction_accuracy : float
        Share of forecasts whose move had the sign of the actual move, among those where neither
        move is zero.
    base_rate_up : float
        Share of rises among the actual moves of the same forecasts: the direction accuracy of
        "always up".
    ic : float
        Information coefficient: Pearson correlation of predicted and actual returns over all
        forecasts. Undefined when either return never varies.
    rank_ic : float
        The same of their ranks (Spearman), ties sharing their mean rank.
    coverage : float
        Share of outcomes inside the forecast's interval, among forecasts that have one.
    """

    forecasts: int
    sessions: int
    mae: float
    rmse: float
    mape: float
    relative_mae: float
    direction_accuracy: float
    base_rate_up: float
    ic: float
    rank_ic: float
    coverage: float

    def to_dict(self) -> dict[str, Any]:
        """Return the scores for JSON: an undefined one is None."""
        return undefined_as_none(asdict(self))


def score_rows(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Score each forecast.

    Parameters
    ----------
    forecasts : DataFrame
        One row per forecast: ``session`` (the target), ``ticker``, ``horizon`` (sessions ahead),
        ``actual``, ``predicted``, ``persistence`` (the last close when the forecast was made) and,
        where there are intervals, ``lower`` and ``upper``. All prices have one basis.

    Returns
    -------
    DataFrame
        The rows with float64 columns added: ``absolute_error`` and ``squared_error``,
        ``absolute_percentage_error`` (a fraction of actual), ``persistence_absolute_error``,
        ``direction_hit`` (1 or 0; NaN when either move is zero) and ``covered`` (1 or 0; NaN
        without an interval).

    Raises
    ------
    StockAssetsError
        A price is not finite, or an actual or persistence price is not positive.
    """
    _require_prices(forecasts)
    actual, predicted, persistence = (forecasts[name] for name in PRICES)
    error = (predicted - actual).abs()
    signs = np.sign(relative_returns(forecasts))
    hit = (signs["predicted"] == signs["actual"]).astype(float)
    bounds = forecasts.reindex(columns=["lower", "upper"])
    covered = actual.between(bounds["lower"], bounds["upper"]).astype(float)
    return forecasts.assign(
        absolute_error=error,
        absolute_percentage_error=error / actual,
        squared_error=error**2,
        persistence_absolute_error=(persistence - actual).abs(),
        direction_hit=hit.where((signs != 0).all(axis=1)),
        covered=covered.where(bounds.notna().all(axis=1)),
    )


def persistence_forecasts(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Replace the forecast of each row by persistence, without an interval."""
    return forecasts[[*KEY, *PRICES]].assign(predicted=forecasts["persistence"])


def summarise(rows: pd.DataFrame) -> Metrics:
    """Summarise scored rows, all tickers and horizons together.

    Parameters
    ----------
    rows : DataFrame
        From `score_rows`; their order does not matter.

    Raises
    ------
    StockAssetsError
        There is no row.
    """
    if rows.empty:
        raise StockAssetsError(
            "there is no scored forecast to summarise",
            "Choose sessions for which forecasts were made and prices are known",
        )
    (figures,) = _metrics(rows, one_group(rows)).to_dict("records")
    return Metrics(**{str(name): figure for name, figure in figures.items()})


def one_group(rows: pd.DataFrame | pd.Series[Any]) -> pd.Series[int]:
    """Assign all rows to one group, for functions that compute per group."""
    return pd.Series(0, index=rows.index)


def undefined_as_none(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON does not have, by None."""
    return {name: None if value != value else value for name, value in figures.items()}


def relative_returns(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each forecast's predicted and actual move as a fraction of the last close.

    Parameters
    ----------
    rows : DataFrame
        Forecasts with the columns of `PRICES`.

    Returns
    -------
    DataFrame
        ``predicted`` and ``actual``, float64, on the index of `rows`, rounded to 12 decimals: moves
        that differ only by a rounding error are ties.
    """
    moves = rows[["predicted", "actual"]].div(rows["persistence"], axis=0) - 1
    return moves.round(_DECIMALS)


def by_ticker(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarise scored rows per ticker.

    Returns
    -------
    DataFrame
        ``ticker`` and the fields of `Metrics`, one row per ticker in alphabetical order.
    """
    return _metrics(rows, rows["ticker"]).reset_index()


def block_coverage(covered: NDArray[np.floating[Any]], sessions: int) -> NDArray[np.float64]:
    """Return the coverage of consecutive blocks of sessions.

    Parameters
    ----------
    covered : ndarray (T, N)
        1 where an interval has its outcome inside, 0 where not, NaN without one; oldest first.
    sessions : int
        Sessions per block; a shorter last one is left out.
    """
    blocks = len(covered) // sessions
    parts = covered[: blocks * sessions].reshape(blocks, sessions * covered.shape[1])
    shares: NDArray[np.float64] = np.nanmean(parts, axis=1)
    return shares


def weekly_coverage(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the coverage of each week, by its first scored session.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts with ``session`` and ``covered``.

    Returns
    -------
    Series of float64
        Share of outcomes inside the interval, NaN without one; oldest first.
    """
    week = rows["session"].dt.to_period("W")
    first = rows["session"].groupby(week).transform("min")
    coverage: pd.Series[float] = rows["covered"].groupby(first).mean()
    return coverage


def correlations(
    pairs: pd.DataFrame, by: pd.Series[Any] | list[pd.Series[Any]]
) -> pd.Series[float]:
    """Compute Pearson's correlation of `predicted` and `actual` within each group.

    Parameters
    ----------
    pairs : DataFrame
        ``predicted`` and ``actual`` from :func:`relative_returns`, or their ranks.
    by : Series, or list of Series
        The group of each row.

    Returns
    -------
    Series
        One number per group, NaN where either side is constant.
    """
    centred = pairs - pairs.groupby(by).transform("mean")
    covariance = (centred["predicted"] * centred["actual"]).groupby(by).mean()
    spread = (centred**2).groupby(by).mean() ** 0.5
    correlation: pd.Series[float] = covariance / spread.prod(axis=1)
    return correlation.where(spread.min(axis=1) >= CONSTANT).clip(-1.0, 1.0)


def sum_terms(rows: pd.DataFrame, by: pd.Series[Any] | list[pd.Series[Any]]) -> pd.DataFrame:
    """Add up, per group, the terms of every pooled score.

    Parameters
    ----------
    rows : DataFrame
        From `score_rows`; their order does not matter.
    by : Series, or list of Series
        The group of each row.

    Returns
    -------
    DataFrame of float64
        Indexed by group: ``forecasts``, ``sessions`` (distinct ones) and the columns that
        `pooled_scores` reads. All but ``sessions`` of groups with a session in common add up.
    """
    actual, persistence, hit = rows["actual"], rows["persistence"], rows["direction_hit"]
    terms = pd.DataFrame(
        {
            "forecasts": 1.0,
            "absolute_error": rows["absolute_error"],
            "squared_error": rows["squared_error"],
            "percentage_error": rows["absolute_percentage_error"],
            "persistence_error": rows["persistence_absolute_error"],
            "persistence_percentage_error": rows["persistence_absolute_error"] / actual,
            "loss": rows["absolute_error"] / persistence,
            "persistence_loss": rows["persistence_absolute_error"] / persistence,
            "hits": hit,
            "directions": hit.notna().astype(float),
            "rises": ((actual > persistence) & hit.notna()).astype(float),
            "covered": rows["covered"],
            "intervals": rows["covered"].notna().astype(float),
        }
    ).groupby(by)
    return terms.sum().assign(sessions=rows["session"].groupby(by).nunique())


def roll_terms(terms: pd.DataFrame, window: int, newest: int) -> pd.DataFrame:
    """Add terms of single sessions up over the window that ends at each of the newest sessions.

    Parameters
    ----------
    terms : DataFrame
        From `sum_terms`, one row per session of one model version, oldest first.
    window : int
        Sessions in a window; fewer at the beginning.
    newest : int
        Rows to return, the last ones.
    """
    window = min(window, len(terms))
    padded = np.concatenate([np.zeros((window - 1, terms.shape[1])), terms.to_numpy(np.float64)])
    windows = sliding_window_view(padded, window, axis=0)[-newest:]
    return pd.DataFrame(windows.sum(axis=-1), terms.index[-newest:], terms.columns)


def pooled_scores(terms: pd.DataFrame) -> pd.DataFrame:
    """Compute the scores of each group from its summed terms; see `Metrics`.

    Parameters
    ----------
    terms : DataFrame
        From `sum_terms`, or summed by the database.

    Returns
    -------
    DataFrame
        ``forecasts``, ``sessions``, the fields of `Metrics` but the correlations,
        ``persistence_mae``, ``persistence_mape``, and ``loss_difference``, by how much the mean
        error as a fraction of the last close exceeds persistence's.
    """
    count = terms["forecasts"]
    loss, persistence_loss = terms["loss"] / count, terms["persistence_loss"] / count
    return pd.DataFrame(
        {
            "forecasts": count.astype(int),
            "sessions": terms["sessions"].astype(int),
            "mae": terms["absolute_error"] / count,
            "persistence_mae": terms["persistence_error"] / count,
            "rmse": (terms["squared_error"] / count) ** 0.5,
            "mape": terms["percentage_error"] / count,
            "persistence_mape": terms["persistence_percentage_error"] / count,
            "relative_mae": (loss / persistence_loss).where(persistence_loss > 0),
            "loss_difference": loss - persistence_loss,
            "direction_accuracy": terms["hits"] / terms["directions"],
            "base_rate_up": terms["rises"] / terms["directions"],
            "coverage": terms["covered"] / terms["intervals"],
        }
    )


def _metrics(rows: pd.DataFrame, by: pd.Series[Any]) -> pd.DataFrame:
    """Return the fields of `Metrics` as columns, one row per group, in order of the groups."""
    moves = relative_returns(rows)
    scores = pooled_scores(sum_terms(rows, by)).assign(
        ic=correlations(moves, by), rank_ic=correlations(moves.groupby(by).rank(), by)
    )
    return scores[[field.name for field in fields(Metrics)]]


def _require_prices(forecasts: pd.DataFrame) -> None:
    prices = forecasts[list(PRICES)]
    good = pd.DataFrame(np.isfinite(prices), index=prices.index, columns=prices.columns)
    for name in ("actual", "persistence"):
        good[name] &= prices[name] > 0
    if good.all(axis=None):
        return
    position = int((~good.all(axis=1)).to_numpy().argmax())
    row = forecasts.iloc[position]
    name = str(good.iloc[position].idxmin())
    raise StockAssetsError(
        f"the forecast of {row['ticker']} for {pd.Timestamp(row['session']).date()} "
        f"has {row[name]} as its {name} price",
        "Score only pairs whose prices are all known",
    )
