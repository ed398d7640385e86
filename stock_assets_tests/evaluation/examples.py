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
) -> pd.DataFrame:
    """Forecasts whose sessions share a move, so that their tickers are not independent.

    The prices come from `seed`; the forecast is `skill` times the true move, and noise from
    `own_seed`.
    """
    market, own = np.random.default_rng(seed), np.random.default_rng(own_seed)
    shape = (sessions, tickers)
    move = 0.01 * market.standard_normal((sessions, 1)) + 0.005 * market.standard_normal(shape)
    forecast = skill * move + 0.003 * own.standard_normal(shape)
    closes = np.exp(market.uniform(1, 6, tickers)) * np.ones(shape)
    frame = pd.DataFrame(
        {
            "session": np.repeat(pd.bdate_range("2013-01-02", periods=sessions), tickers),
            "ticker": [f"T{number}" for number in range(tickers)] * sessions,
            "actual": (closes * np.exp(move)).ravel(),
            "predicted": (closes * np.exp(forecast)).ravel(),
            "persistence": closes.ravel(),
        }
    )
    return score_rows(frame)
