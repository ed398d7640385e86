"""Real prices that ship in a package: AAPL, FB, GOOG, IBM and MSFT, 2000-03-01 to 2013-03-01.

The file is ``stocks.csv.gz`` of the package ``bokeh_sampledata`` (public domain, from Quandl's
WIKI): prices and volume as traded, and a close adjusted for splits and dividends.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from stock_assets.core.errors import StockAssetsError
from stock_assets.market.bars import tidy
from stock_assets.market.sources.base import Fetch, clip_to_request


class SampleSource:
    """The sample as a price source; it never grows."""

    name = "sample"

    @property
    def last_session(self) -> date:
        """The last session of the sample, 2013-03-01."""
        newest: date = load_sample()["session"].max().date()
        return newest

    def fetch(self, starts: Mapping[str, date], last: date) -> Fetch:
        """Fetch bars as traded; see ``PriceSource.fetch``.

        Raises
        ------
        StockAssetsError
            A ticker is not in the sample.
        """
        bars = load_sample()
        offered = sorted(bars["ticker"].unique())
        unknown = sorted(set(starts) - set(offered))
        if unknown:
            raise StockAssetsError(
                f"the price source sample has no {', '.join(unknown)}; it has {', '.join(offered)}",
                "Correct prices.tickers in params.yaml, or choose another prices.source",
            )
        return clip_to_request(bars, starts, last)


@cache
def load_sample() -> pd.DataFrame:
    """Read the sample as bars as traded, with splits and dividends recovered.

    The file has its events only in the ratio F of the adjusted close to the close. F grows on an
    ex-date, by ``s * (1 + D / close)`` for a split ``s`` and a dividend ``D`` (the formula of
    the WIKI data), and on no other day; the dividends are whole hundredths of a cent.

    Returns
    -------
    DataFrame
        12,154 bars, 3 splits and 92 dividends; shared between callers, who must not change it.
    """
    packaged = files("bokeh_sampledata").joinpath("_data", "stocks.csv.gz")
    with packaged.open("rb") as stream:
        frame = pd.read_csv(stream, compression="gzip", parse_dates=["Date"])
    frame = frame.rename(columns=str.lower).rename(columns={"date": "session"})
    ratio = frame["adj close"] / frame["close"]
    growth = (ratio / ratio.groupby(frame["ticker"]).shift()).fillna(1.0)
    split = growth.round().clip(lower=1.0)
    # Adding 0.0 turns minus zero into zero.
    dividends = (frame["close"] * (growth / split - 1.0)).round(4) + 0.0
    return tidy(frame.assign(dividends=dividends, stock_splits=np.where(split > 1.0, split, 0.0)))
