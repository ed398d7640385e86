"""Bars from the table that ``yfinance.Ticker.history(auto_adjust=False)`` makes."""

from __future__ import annotations

import pandas as pd

from stock_assets.market.adjustment import undo_splits
from stock_assets.market.bars import tidy

COLUMNS = {
    "Date": "session",
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Volume": "volume",
    "Dividends": "dividends",
    "Stock Splits": "stock_splits",
}


def as_traded(history: pd.DataFrame, ticker: str) -> pd.DataFrame:
    """Turn one ticker's history, as Yahoo shows it, into bars as traded.

    Parameters
    ----------
    history : DataFrame
        The columns ``COLUMNS``, with naive dates. Prices, volume and dividends are in the shares of
        its newest row, all splits since its oldest row are in it, and nothing was adjusted for
        dividends. Further columns ("Adj Close") are left out.
    ticker : str
        Whose history it is.

    Returns
    -------
    DataFrame
        A bars frame with one row per row of ``history``.
    """
    return undo_splits(tidy(history.rename(columns=COLUMNS).assign(ticker=ticker)))
