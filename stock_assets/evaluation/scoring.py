"""Forecasts that came due, brought to one basis with what happened."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.evaluation.metrics import KEY, score_rows
from stock_assets.market.adjustment import event_factor


def score_due(forecasts: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """Score forecasts against the closes of their target sessions.

    A forecast is in the shares of its as-of session; the close it is held against is in those of
    the target session, one or more sessions later. Splits and dividends that lie between the two
    were unknown when the forecast was made, so forecast, interval and persistence are divided by
    the factor that became known: a 10:1 split is not an error of 90%. A score has the same bits
    whatever other bars are given.

    Parameters
    ----------
    forecasts : DataFrame
        ``as_of_session``, ``target_session``, ``ticker``, ``horizon``, ``last_close``,
        ``predicted_price``, ``lower_price``, ``upper_price``, and any columns to be kept.
    bars : DataFrame
        Bars as traded that hold every as-of and target session, and all between.

    Returns
    -------
    DataFrame
        One row per forecast whose target session has a bar, as
        :func:`stock_assets.evaluation.metrics.score_rows` gives it: ``session`` is the target, and
        all prices are in its shares. Forecasts without a bar to hold them against are left out.
    """
    known = bars[["ticker", "session", "close"]].assign(row=np.arange(len(bars)))
    at_target = known.rename(columns={"session": "target_session", "close": "actual"})
    at_origin = known.rename(columns={"session": "as_of_session", "row": "origin_row"})
    due = forecasts.merge(at_target, on=["ticker", "target_session"]).merge(
        at_origin.drop(columns="close"), on=["ticker", "as_of_session"]
    )
    became_known = _became_known(bars, due["origin_row"].to_numpy(), due["row"].to_numpy())
    rows = due.rename(columns={"target_session": "session"}).assign(
        predicted=due["predicted_price"] / became_known,
        persistence=due["last_close"] / became_known,
        lower=due["lower_price"] / became_known,
        upper=due["upper_price"] / became_known,
    )
    kept = rows.drop(
        columns=[
            "row",
            "origin_row",
            "last_close",
            "predicted_price",
            "lower_price",
            "upper_price",
        ]
    )
    return score_rows(kept.sort_values(list(KEY)).reset_index(drop=True))


def _became_known(
    bars: pd.DataFrame, origins: NDArray[np.intp], targets: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Multiply the events of the rows after each origin, up to its target."""
    events = event_factor(bars, "adjusted").to_numpy()
    spans = zip(origins + 1, targets + 1, strict=True)
    return np.array([events[start:stop].prod() for start, stop in spans], dtype=np.float64)
