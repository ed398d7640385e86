"""Forecasts as a table: prices in the shares of the as-of session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.market import calendar

FloatArray = NDArray[np.float64]

FORECAST_COLUMNS = (
    "as_of_session",
    "target_session",
    "ticker",
    "horizon",
    "last_close",
    "predicted_return",
    "predicted_price",
    "lower_price",
    "upper_price",
    "coverage",
    "intervals",
)


def forecast_frame(
    bars: pd.DataFrame,
    sessions: Sequence[date],
    tickers: Sequence[str],
    forecastable: NDArray[np.bool_],
    ratios: FloatArray,
    bounds: Sequence[tuple[float, FloatArray, FloatArray]],
) -> pd.DataFrame:
    """Build the table of forecasts from ratios of a price to the as-of close.

    Parameters
    ----------
    bars : DataFrame
        As traded; the closes of `sessions` are read.
    sessions, tickers : sequence
        B as-of sessions and N tickers.
    forecastable : (B, N) bool
        Which pairs have rows.
    ratios : (B, H, N) float64
        Of the forecast prices.
    bounds : sequence of (float, ndarray, ndarray)
        Coverage, and the ratios of the lower and upper bounds, (B, H, N); by ascending coverage.

    Returns
    -------
    DataFrame
        `FORECAST_COLUMNS`, see :meth:`stock_assets.models.bundle.Bundle.forecast`.
    """
    rows, columns = np.nonzero(forecastable)
    horizon = ratios.shape[1]
    close = _as_traded_close(bars, sessions, tickers)[rows, columns, np.newaxis]
    middle = ratios[rows, :, columns]
    prices = [
        (
            coverage,
            np.maximum(close * lower[rows, :, columns], 0.0).ravel(),
            (close * upper[rows, :, columns]).ravel(),
        )
        for coverage, lower, upper in bounds
    ]
    coverage, lower_price, upper_price = prices[-1]
    targets = [calendar.next_sessions(session, horizon) for session in sessions]
    frame = pd.DataFrame(
        {
            "as_of_session": pd.DatetimeIndex(list(sessions))[rows].repeat(horizon),
            "target_session": np.array(targets, dtype="datetime64[ns]")[rows].ravel(),
            "ticker": np.array(tickers, dtype=object)[columns].repeat(horizon),
            "horizon": np.tile(np.arange(1, horizon + 1), len(rows)),
            "last_close": close.repeat(horizon),
            "predicted_return": np.log(middle).ravel(),
            "predicted_price": (close * middle).ravel(),
            "lower_price": lower_price,
            "upper_price": upper_price,
            "coverage": coverage,
            "intervals": _interval_texts(prices),
        }
    )
    return frame[list(FORECAST_COLUMNS)]


def _interval_texts(prices: Sequence[tuple[float, FloatArray, FloatArray]]) -> list[str]:
    """Write the bounds and the coverage of each forecast's intervals, as PostgreSQL writes JSON."""
    columns = [
        [
            {"lower": low, "upper": high, "coverage": coverage}
            for low, high in zip(lower.tolist(), upper.tolist(), strict=True)
        ]
        for coverage, lower, upper in prices
    ]
    return [json.dumps(intervals) for intervals in zip(*columns, strict=True)]


def _as_traded_close(
    bars: pd.DataFrame, sessions: Sequence[date], tickers: Sequence[str]
) -> FloatArray:
    """Return closes as traded, shape (B, N), NaN without a bar."""
    index = pd.DatetimeIndex(list(sessions))
    closes = bars[bars["session"].isin(index)].pivot(
        index="session", columns="ticker", values="close"
    )
    return closes.reindex(index=index, columns=list(tickers)).to_numpy(dtype=np.float64)
