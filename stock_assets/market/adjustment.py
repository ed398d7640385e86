"""Adjust prices as traded for corporate actions, as of any session.

For each ticker, with ``s`` the split ratio of a session (1 without a split), ``D`` its dividend and
``P`` the close of the bar before, in the shares of the session (the close as traded, over ``s``)::

    K(t) = product over all bars up to t of   s                 basis "split_adjusted"
                                              s / (1 - D / P)   basis "adjusted"
                                              1                 basis "raw"

    price at t, as of session A = price as traded at t * K(t) / K(A)

so that the bar of A itself is always as traded. Volumes go the other way and follow splits alone;
dividends follow splits alone; split ratios never change. The dividend factor ``1 - D / P`` is the
one of Yahoo's "Adj Close" (its help page "What is the adjusted close?", after CRSP's standards).

``K`` starts with the first bar of the frame, so factors belong to frames that start with the same
bar. A row's ``K`` is computed from the rows up to it: its bits do not depend on later rows or other
tickers. In which bar an action takes effect is decided in
:mod:`stock_assets.market.corporate_actions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from stock_assets.config import Basis
from stock_assets.core.errors import StockAssetsError
from stock_assets.market.bars import PRICE_COLUMNS


@dataclass(frozen=True)
class AdjustmentFactors:
    """The factors of one ticker at its as-of session.

    Attributes
    ----------
    price : float
        K of the basis.
    volume : float
        K of the splits alone (1.0 on the basis "raw").
    close : float
        K of all events, on every basis.
    """

    price: float
    volume: float
    close: float


def price_factor(bars: pd.DataFrame, basis: Basis) -> pd.Series:
    """Compute K(t), the running product of each ticker's events.

    Parameters
    ----------
    bars : DataFrame
        Bars as traded, each ticker from its first bar on.
    basis : {"raw", "split_adjusted", "adjusted"}
        Which events count.

    Returns
    -------
    Series of float64
        One positive factor per row of ``bars``, on its index.

    Raises
    ------
    StockAssetsError
        A dividend is not smaller than the close before it.
    """
    return event_factor(bars, basis).groupby(bars["ticker"], sort=False).cumprod()


def event_factor(bars: pd.DataFrame, basis: Basis) -> pd.Series:
    """Compute K(t) / K(t - 1), the factor of each bar's own events; 1 without any.

    It depends on a bar and the one before it. Parameters, result and error are those of
    :func:`price_factor`.
    """
    if basis == "raw":
        return pd.Series(1.0, index=bars.index)
    ratio = bars["stock_splits"].where(bars["stock_splits"] > 0, 1.0)
    return ratio if basis == "split_adjusted" else ratio / _kept_after_dividend(bars, ratio)


def _kept_after_dividend(bars: pd.DataFrame, ratio: pd.Series) -> pd.Series:
    """Compute 1 - D / P; 1 without a dividend or a previous bar."""
    same_ticker = bars["ticker"].eq(bars["ticker"].shift())
    before = bars["close"].shift().where(same_ticker, np.inf) / ratio
    kept = 1.0 - (bars["dividends"] / before).where(bars["dividends"] > 0, 0.0)
    impossible = kept <= 0
    if impossible.any():
        row = bars[impossible].iloc[0]
        raise StockAssetsError(
            f"{row['ticker']} {row['session']:%Y-%m-%d}: the dividend of {row['dividends']} is not "
            f"smaller than the close before it ({before[impossible].iloc[0]})",
            "Correct the dividend at the source and fetch this ticker again",
        )
    return kept


def adjustment_factors(bars: pd.DataFrame, basis: Basis) -> dict[str, AdjustmentFactors]:
    """Compute each ticker's factors at its last bar.

    Parameters
    ----------
    bars : DataFrame
        Bars as traded, each ticker from its first bar on.
    basis : {"raw", "split_adjusted", "adjusted"}
        The basis to adjust to.
    """
    last = ~bars["ticker"].duplicated(keep="last")
    price = price_factor(bars, basis)[last]
    volume = price_factor(bars, _share_basis(basis))[last]
    close = price if basis == "adjusted" else price_factor(bars, "adjusted")[last]
    at_last = zip(price, volume, close, strict=True)
    return {
        ticker: AdjustmentFactors(*factors)
        for ticker, factors in zip(bars["ticker"][last], at_last, strict=True)
    }


def rebase(
    bars: pd.DataFrame, basis: Basis, adjustment_factors: dict[str, AdjustmentFactors]
) -> pd.DataFrame:
    """Adjust bars to the as-of session of the factors.

    Parameters
    ----------
    bars : DataFrame
        Bars as traded, before and after that session, from the first bar of the history on.
    basis : {"raw", "split_adjusted", "adjusted"}
        The basis that the factors were computed for.
    adjustment_factors : dict of str to AdjustmentFactors
        Tickers without factors are adjusted to their first bar (factor 1).

    Returns
    -------
    DataFrame
        The same rows on the basis, with ``adjusted_close``, which is adjusted for all events on
        every basis. A row's bits do not depend on later rows.
    """
    origin = AdjustmentFactors(1.0, 1.0, 1.0)
    factors = {name: adjustment_factors.get(name, origin) for name in bars["ticker"].unique()}
    price_at, shares_at, close_at = (
        bars["ticker"]
        .map({name: getattr(factor, field) for name, factor in factors.items()})
        .astype(float)
        for field in ("price", "volume", "close")
    )
    of_basis = price_factor(bars, basis)
    all_events = of_basis if basis == "adjusted" else price_factor(bars, "adjusted")
    based = _scaled(
        bars,
        prices=of_basis / price_at,
        splits=price_factor(bars, _share_basis(basis)) / shares_at,
    )
    return based.assign(adjusted_close=bars["close"] * (all_events / close_at))


def adjust(bars: pd.DataFrame, basis: Basis, as_of: date) -> pd.DataFrame:
    """Adjust the bars up to a session as of its close.

    Parameters
    ----------
    bars : DataFrame
        Bars as traded, each ticker from its first bar on.
    basis : {"raw", "split_adjusted", "adjusted"}
        Which events to adjust for.
    as_of : date
        The as-of session; later rows are dropped first.

    Returns
    -------
    DataFrame
        Bars on the basis; each ticker's last one is as traded.
    """
    known = bars[bars["session"] <= pd.Timestamp(as_of)].reset_index(drop=True)
    seen: pd.DataFrame = rebase(known, basis, adjustment_factors(known, basis))[list(bars.columns)]
    return seen


def _share_basis(basis: Basis) -> Basis:
    return "raw" if basis == "raw" else "split_adjusted"


def _scaled(bars: pd.DataFrame, prices: pd.Series, splits: pd.Series) -> pd.DataFrame:
    changed = {name: bars[name] * prices for name in PRICE_COLUMNS}
    changed["volume"] = bars["volume"] / splits
    changed["dividends"] = bars["dividends"] * splits
    return bars.assign(**changed)
