"""Yahoo Finance, through yfinance, as a live price source."""

from __future__ import annotations

import shutil
import tempfile
import time
from atexit import register
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any

import pandas as pd

from stock_assets import config
from stock_assets.market import calendar
from stock_assets.market.bars import PRICE_COLUMNS, empty_bars, tidy
from stock_assets.market.sources.base import Fetch
from stock_assets.market.sources.history import as_traded
from stock_assets.progress import bar

_RETRIES = 2


class YahooSource:
    """Daily bars from Yahoo, one request per ticker.

    Yahoo divides its prices by every split up to the moment of the request. Each request therefore
    runs to the present, so that all those splits are in the answer and can be
    undone, and is cut to the range afterwards. A session that has not closed has no bar.

    Parameters
    ----------
    settings : config.Yahoo
        Timeout and pause.
    now : callable
        Tells the present moment, with its time zone.
    """

    name = "yahoo"
    last_session = None

    def __init__(
        self, settings: config.Yahoo, now: Callable[[], datetime] = calendar.utc_now
    ) -> None:
        self._settings = settings
        self._now = now

    def fetch(self, tickers: Sequence[str], first: date, last: date) -> Fetch:
        """Get bars as traded; see ``PriceSource.fetch``.

        A few sessions before ``first`` are asked for as well, so that a sound answer always holds
        some bar and one without any is a failure. A closed session that Yahoo shows without prices
        is a missing bar.
        """
        from curl_cffi.requests.exceptions import RequestException
        from yfinance.data import YfData
        from yfinance.exceptions import YFException

        # The plain ones are how yfinance stumbles over an answer of another shape than it expects.
        broken = (YFException, RequestException, KeyError, TypeError, ValueError)
        # yfinance remembers answers, failed and cut ones too, for the life of the process.
        YfData.cache_get.cache_clear()
        end = min(last, calendar.last_closed_session(self._now()))
        start = calendar.previous_session(first, self._settings.overlap_sessions)
        histories: list[pd.DataFrame] = []
        failures: dict[str, str] = {}
        for position, ticker in enumerate(bar(tickers, "Yahoo")):
            if position:
                time.sleep(self._settings.pause_seconds)
            try:
                histories.append(self._history(ticker, start))
            except broken as error:
                failures[ticker] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        bars = tidy(pd.concat([empty_bars(), *histories]))
        wanted = bars["session"].between(pd.Timestamp(first), pd.Timestamp(end))
        return Fetch(bars[wanted].reset_index(drop=True), failures)

    def _history(self, ticker: str, start: date) -> pd.DataFrame:
        """Get one ticker's bars as traded, from ``start`` to the present."""
        history = (
            _yfinance()
            .Ticker(ticker)
            .history(
                start=start.isoformat(),
                interval="1d",
                auto_adjust=False,
                actions=True,
                repair=False,
                timeout=self._settings.timeout_seconds,
            )
        )
        bars = as_traded(history.tz_localize(None).rename_axis("Date").reset_index(), ticker)
        # Yahoo announces an event before it has the bar; the event comes again with the bar.
        return bars.dropna(subset=list(PRICE_COLUMNS), how="all")


@cache
def _yfinance() -> Any:
    """Import yfinance and set it up, once per process.

    Errors are raised instead of logged. The cookie and time zone caches (SQLite) get a folder of
    this process: processes that share a cold one lose tickers.
    """
    import yfinance

    folder = tempfile.mkdtemp(prefix="stock-assets-yfinance-")
    register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(folder)
    yfinance.config.debug.hide_exceptions = False
    yfinance.config.network.retries = _RETRIES
    return yfinance
