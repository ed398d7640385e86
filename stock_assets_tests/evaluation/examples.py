"""Scored forecasts of made-up prices."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stock_assets.evaluation.metrics import score_rows


def scored_forecasts(
    seed: int = 0,
    sessions: int = 40,
    tickers: int = 5,
    skill: float = 0.0,
    own_seed: int = 1,
    horizons: int = 1,
) -> pd.DataFrame:
    """Forecasts whose sessions share a move, so that their tickers are not independent.

    The prices come from `seed`; the forecast is `skill` times the true move, and noise from
    `own_seed`. With several horizons every as-of session has one forecast for each, so that the
    first and last target sessions have fewer.
    """
    market, own = np.random.default_rng(seed), np.random.default_rng(own_seed)
    shape = (sessions, tickers)
    move = 0.01 * market.standard_normal((sessions, 1)) + 0.005 * market.standard_normal(shape)
    closes = np.exp(market.uniform(1, 6, tickers)) * np.ones(shape)
    targets = pd.bdate_range("2013-01-02", periods=sessions)
    parts = []
    for horizon in range(1, horizons + 1):
        last = sessions - horizons + 1
        over = sum(move[step : last + step] for step in range(horizon))
        forecast = skill * over + 0.003 * own.standard_normal((last, tickers))
        frame = pd.DataFrame(
            {
                "session": targets[horizon - 1 : last + horizon - 1].repeat(tickers),
                "ticker": [f"T{number}" for number in range(tickers)] * last,
                "horizon": horizon,
                "actual": (closes[:last] * np.exp(over)).ravel(),
                "predicted": (closes[:last] * np.exp(forecast)).ravel(),
                "persistence": closes[:last].ravel(),
            }
        )
        parts.append(frame)
    return score_rows(pd.concat(parts, ignore_index=True))
