"""Conditions that a forecast must meet to be stored."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stock_assets.market import calendar

_PRICES = ["last_close", "predicted_price", "upper_price"]


def invalid_forecasts(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Find forecasts that must not be stored.

    Parameters
    ----------
    forecasts : DataFrame
        ``as_of_session``, ``target_session``, ``ticker``, ``horizon``, ``last_close``,
        ``predicted_price``, ``lower_price``, ``upper_price`` and, where known, ``model_as_of``,
        the newest session that the model has seen.

    Returns
    -------
    DataFrame
        The invalid rows with a column ``problem``: a price that is not finite and positive (the
        lower bound may be zero), a price outside its interval, a target that is not ``horizon``
        sessions after the as-of session, or a model that has seen later sessions.
    """
    prices = forecasts[_PRICES].to_numpy(dtype=np.float64)
    finite = (np.isfinite(prices) & (prices > 0)).all(axis=1)
    bounded = forecasts["lower_price"].between(0.0, np.inf, inclusive="left")
    inside = forecasts["predicted_price"].between(
        forecasts["lower_price"], forecasts["upper_price"]
    )
    as_of = forecasts["as_of_session"]
    origins = list(zip(as_of, forecasts["horizon"], strict=True))
    targets = {
        key: pd.Timestamp(calendar.next_session(key[0].date(), key[1])) for key in set(origins)
    }
    on_time = forecasts["target_session"] == [targets[key] for key in origins]
    later = forecasts.get("model_as_of", as_of) > as_of
    problem = np.select(
        [~(finite & bounded), ~inside, ~on_time, later],
        [
            "a price is not finite and positive",
            "the price lies outside its interval",
            "the target is not the session of the horizon",
            "the model has seen later sessions",
        ],
        "",
    )
    invalid: pd.DataFrame = forecasts.assign(problem=problem).loc[problem != ""]
    return invalid
