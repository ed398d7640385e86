"""A few bars, and series of made-up closes."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.market.sources.sample import load_sample

SESSIONS = calendar.sessions(date(2000, 3, 1), date(2000, 12, 29))


def few_bars(rows=6):
    return load_sample().groupby("ticker").head(rows // 3).head(rows).reset_index(drop=True)


def series(closes, ticker="IBM", **columns):
    """Bars of one ticker with these closes, no two of them alike."""
    count = len(closes)
    close = pd.Series(closes, dtype=float)
    events = {"dividends": 0.0, "stock_splits": 0.0, "volume": 1000.0 + np.arange(count)}
    return tidy(
        pd.DataFrame({"ticker": ticker, "session": SESSIONS[:count]}).assign(
            open=close, high=close, low=close, close=close, **events | columns
        )
    )


def names(findings):
    """Ticker, ISO session and rule of each finding."""
    days = findings["session"].dt.strftime("%Y-%m-%d")
    return list(zip(findings["ticker"], days, findings["rule"], strict=True))
