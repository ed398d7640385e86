"""Scores of forecasts against the closes of their target sessions, on one price basis."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.evaluation.metrics import KEY, score_rows
from stock_assets.market.adjustment import event_factor


def score_due(forecasts: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """Score forecasts against the closes of their target sessions.

    A forecast is in the shares of its as-of session, the close in those of the target session.
    Splits and dividends between the two were unknown when the forecast was made, so forecast,
    interval and persistence are divided by their factor: a 10:1 split is not an error of 90%. Other
    bars do not change a bit of a score.

    Parameters
    ----------
    forecasts : DataFrame
        ``as_of_session``, ``target_session``, ``ticker``, ``horizon``, ``last_close``,
        ``predicted_price``, ``lower_price``, ``upper_price``; other columns are kept.
    bars : DataFrame
        Bars as traded of every as-of and target session, and all between.

    Returns
    -------
    DataFrame
        The rows of :func:`stock_assets.evaluation.metrics.score_rows`, one per forecast whose
        target session has a bar: ``session`` is the target, and all prices are in its shares.
    """
    known = bars[["ticker", "session", "close"]].assign(row=np.arange(len(bars)))
    at_target = known.rename(columns={"session": "target_session", "close": "actual"})
    at_origin = known.rename(columns={"session": "as_of_session", "row": "origin_row"})
    due = forecasts.merge(at_target, on=["ticker", "target_session"]).merge(
        at_origin.drop(columns="close"), on=["ticker", "as_of_session"]
    )
    factor = _factors_between(bars, due["origin_row"].to_numpy(), due["row"].to_numpy())
    rows = due.rename(columns={"target_session": "session"}).assign(
        predicted=due["predicted_price"] / factor,
        persistence=due["last_close"] / factor,
        lower=due["lower_price"] / factor,
        upper=due["upper_price"] / factor,
    )
    replaced = ["row", "origin_row", "last_close", "predicted_price", "lower_price", "upper_price"]
    return score_rows(rows.drop(columns=replaced).sort_values(list(KEY)).reset_index(drop=True))


def _factors_between(
    bars: pd.DataFrame, origins: NDArray[np.intp], targets: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Multiply the event factors of the rows after each origin, up to its target."""
    events = event_factor(bars, "adjusted").to_numpy()
    spans = zip(origins + 1, targets + 1, strict=True)
    return np.array([events[start:stop].prod() for start, stop in spans], dtype=np.float64)
