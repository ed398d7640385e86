"""Bars and actions as traded, from a table of ``yfinance.Ticker.history``.

Yahoo divides prices and dividends by every later split, and multiplies volumes. Undoing that is not
exact: prices come as 32-bit floats, dividends with six decimals. So prices are rounded to six
significant digits, but to no fewer than two decimals and no more than four, the finest steps that
shares are quoted in (Regulation NMS, rule 612). Up to 10,000 dollars the result does not depend on
the splits known when it was fetched.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.market.adjustment import event_factor
from stock_assets.market.bars import PRICE_COLUMNS, tidy
from stock_assets.market.corporate_actions import DIVIDEND, SPLIT, attach, tidy_actions
from stock_assets.market.sources.base import Fetch

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
_DIVIDEND_STEP = 1e-6
_PRICE_DIGITS = 6
_CENTS, _HUNDREDTHS = 2, 4


def as_traded(history: pd.DataFrame, reported: pd.DataFrame, currency: str) -> Fetch:
    """Convert one ticker's history from Yahoo's adjusted prices to prices as traded.

    Parameters
    ----------
    history : DataFrame
        A bars frame of one ticker: prices and volume in the shares of the newest action, not
        adjusted for dividends. Its actions are ignored. Days without prices are left out.
    reported : DataFrame
        An actions frame of that ticker: all splits since the oldest bar, and dividends in the
        shares of the newest split.
    currency : str
        The currency of the prices.

    Returns
    -------
    Fetch
        Prices of six significant digits, with two to four decimals; whole shares.

    Raises
    ------
    StockAssetsError
        A dividend is not smaller than the close before it, so no price can be adjusted for it.
    """
    splits = reported[reported["kind"] == SPLIT]
    bars = history.dropna(subset=list(PRICE_COLUMNS), how="all").reset_index(drop=True)
    later = _later_ratio(bars["session"], splits)
    prices = {name: _quoted(bars[name].to_numpy() * later) for name in PRICE_COLUMNS}
    shares = (bars["volume"] / later).round()
    dividends = reported[reported["kind"] == DIVIDEND]
    ratio = _later_ratio(dividends["ex_date"], splits)
    # Undoing the ratio multiplies the step that Yahoo rounds to.
    decimals = np.floor(-np.log10(_DIVIDEND_STEP * ratio)).astype(int)
    paid = dividends.assign(value=_rounded(dividends["value"].to_numpy() * ratio, decimals))
    actions = tidy_actions(pd.concat([splits, paid]))
    traded = attach(bars.assign(**prices, volume=shares), actions)
    event_factor(traded[traded["close"] > 0], "adjusted")
    tickers = history["ticker"].unique()
    return Fetch(tidy(traded), actions, currencies=dict.fromkeys(tickers, currency))


def _later_ratio(days: pd.Series, splits: pd.DataFrame) -> NDArray[np.float64]:
    """Return, for each day, the product of the ratios of all later splits."""
    ordered = splits.sort_values("ex_date")
    products = np.append(ordered["value"].to_numpy()[::-1].cumprod()[::-1], 1.0)
    after = ordered["ex_date"].searchsorted(days, side="right")
    return products[after]


def _quoted(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to six significant digits, but to no fewer than two and no more than four decimals."""
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.floor(np.log10(np.abs(prices)))
    sound = np.where(np.isfinite(magnitude), magnitude, 0.0).astype(int)
    return _rounded(prices, (_PRICE_DIGITS - 1 - sound).clip(_CENTS, _HUNDREDTHS))


def _rounded(values: NDArray[np.float64], decimals: NDArray[np.int_]) -> NDArray[np.float64]:
    """Round each value to its number of decimals."""
    scale = 10.0**decimals
    return np.round(values * scale) / scale
