"""What a forecast must be before anybody sees it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stock_assets.market import calendar

_PRICES = ["last_close", "predicted_price", "lower_price", "upper_price"]


def unsound_forecasts(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Find forecasts that must not be stored.

    Parameters
    ----------
    forecasts : DataFrame
        ``as_of_session``, ``target_session``, ``ticker``, ``last_close``, ``predicted_price``,
        ``lower_price``, ``upper_price``.

    Returns
    -------
    DataFrame
        The offending rows with a column ``problem``: a price that is not finite and positive, a
        price outside its interval, or a target that is not the session after the as-of session.
    """
    prices = forecasts[_PRICES].to_numpy(dtype=np.float64)
    finite = (np.isfinite(prices) & (prices > 0)).all(axis=1)
    inside = forecasts["predicted_price"].between(
        forecasts["lower_price"], forecasts["upper_price"]
    )
    as_of = forecasts["as_of_session"]
    following = {day: pd.Timestamp(calendar.next_session(day.date())) for day in as_of.unique()}
    on_time = forecasts["target_session"] == as_of.map(following)
    problem = np.select(
        [~finite, ~inside.to_numpy(), ~on_time.to_numpy()],
        [
            "a price is not finite and positive",
            "the price lies outside its interval",
            "the target is not the next session",
        ],
        "",
    )
    named = forecasts.assign(problem=problem)
    return named[named["problem"] != ""]
