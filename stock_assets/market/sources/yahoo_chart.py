"""One ticker's chart at Yahoo Finance, through yfinance: one request, a chart or an error."""

from __future__ import annotations

import logging
import shutil
import tempfile
from atexit import register
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from stock_assets.market import calendar
from stock_assets.market.bars import PRICE_COLUMNS, tidy
from stock_assets.market.corporate_actions import DIVIDEND, SPLIT, tidy_actions
from stock_assets.market.sources.history import COLUMNS

_CONNECT_SECONDS = 5.0
_CHART = "/v8/finance/chart/"
# yfinance raises these for an answer of unexpected shape.
_PARSE_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


class RefusedError(Exception):
    """Yahoo's answer is final and cannot be stored; the text is the reason."""


class NoAnswerError(Exception):
    """No valid answer, but another attempt may succeed; the text is the reason."""


class LimitedError(NoAnswerError):
    """Yahoo limits the rate of requests."""


class UnreachableError(NoAnswerError):
    """There was no response."""


@dataclass(frozen=True)
class Chart:
    """Yahoo's history of a ticker.

    Attributes
    ----------
    bars : DataFrame
        A bars frame, but for its index: prices divided by all splits up to the moment of the
        request. Do not use its actions: yfinance moves one without a bar to another day.
    actions : DataFrame
        An actions frame on Yahoo's ex-dates; dividends in the shares of the prices.
    currency : str
        The currency of prices and dividends.
    """

    bars: pd.DataFrame
    actions: pd.DataFrame
    currency: str


@cache
def connection() -> Any:
    """Set up yfinance once per process; return the ``YfData`` that sends its requests.

    Errors are raised and not logged. The cookie cache (SQLite) is in a folder of this process:
    processes that share an empty one lose tickers.
    """
    import yfinance
    from curl_cffi.requests import Session
    from yfinance.data import YfData
    from yfinance.exceptions import YFRateLimitError

    class Plain(Session[Any]):
        """Raises at a rate limit and a server error, which yfinance would retry twice at once."""

        def request(self, method: Any, url: str, **options: Any) -> Any:  # type: ignore[override]
            longest = options["timeout"]
            options["timeout"] = (min(longest, _CONNECT_SECONDS), longest)
            response = super().request(method, url, **options)
            if _CHART in url and response.status_code == 429:
                raise YFRateLimitError
            if _CHART in url and response.status_code >= 500:
                response.raise_for_status()
            return response

    folder = tempfile.mkdtemp(prefix="stock-assets-yfinance-")
    register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(folder)
    yfinance.config.debug.hide_exceptions = False
    yfinance.config.network.retries = 0
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)
    return YfData(session=Plain(impersonate="chrome"))


def fetch_chart(connection: Any, ticker: str, start: date, timeout: float) -> Chart:
    """Fetch a ticker's bars and actions, from a day to the present.

    Without an end the answer has every split that its prices are divided by, and yfinance does not
    use its cache, which holds failed answers too.

    Parameters
    ----------
    connection : yfinance.data.YfData
        From :func:`connection`.
    ticker : str
        Yahoo's symbol.
    start : date
        The first day.
    timeout : float
        Seconds to wait for the answer.

    Raises
    ------
    RefusedError
        Yahoo does not know the ticker, or its history cannot be stored.
    NoAnswerError
        Anything else.
    """
    from curl_cffi.requests.exceptions import RequestException
    from yfinance.exceptions import YFException
    from yfinance.scrapers.history import PriceHistory

    # ``yfinance.Ticker`` uses it too, after an extra request for the time zone.
    history = PriceHistory(connection, ticker, calendar.TIMEZONE)
    try:
        table = history.history(
            start=start.isoformat(),
            interval="1d",
            auto_adjust=False,
            actions=True,
            repair=False,
            timeout=timeout,
        )
        currency = _currency(history.get_history_metadata())
        rows = table.tz_localize(None).rename_axis("Date").reset_index().rename(columns=COLUMNS)
        bars = tidy(rows.assign(ticker=ticker)).dropna(subset=list(PRICE_COLUMNS), how="all")
        return Chart(bars, _actions(history, ticker, currency), currency)
    except (YFException, RequestException, *_PARSE_ERRORS) as error:
        raise _reason(error, start) from error


def _reason(error: Exception, start: date) -> Exception:
    """Return the error in one line, by whether another attempt can succeed."""
    from curl_cffi.requests.exceptions import RequestException
    from yfinance.exceptions import YFDataException, YFPricesMissingError, YFRateLimitError

    text = " ".join(str(error).split()).removesuffix(".")
    match error:
        case YFRateLimitError():
            return LimitedError(
                "Yahoo limits the rate of requests (HTTP 429); run this again later"
            )
        case YFPricesMissingError(yahoo_reason=str(reason)):
            return RefusedError(
                f"Yahoo has no data for it ({reason}): delisted or renamed? "
                "Remove it from prices.tickers or add a rename"
            )
        case YFPricesMissingError():
            return NoAnswerError(
                f"Yahoo's answer has no price from {start} on: if this stays so, it is delisted or "
                "renamed; remove it from prices.tickers or add a rename"
            )
        case YFDataException():
            return NoAnswerError("Yahoo reports that it is down")
        case RequestException(code=0, response=response) if response is not None:
            return NoAnswerError(f"Yahoo answered HTTP {response.status_code}")
        case RequestException():
            problem = text.removeprefix("Failed to perform, ").partition(". See https://")[0]
            return UnreachableError(f"no answer from Yahoo ({problem})")
        case _:
            return NoAnswerError(f"Yahoo's answer cannot be read ({type(error).__name__}: {text})")


def _currency(metadata: Mapping[str, Any]) -> str:
    zone, currency = metadata["exchangeTimezoneName"], metadata["currency"]
    if zone != calendar.TIMEZONE:
        raise RefusedError(
            f"its exchange is in the time zone {zone}: "
            "only tickers of New York's exchanges can be stored"
        )
    if not currency:
        raise RefusedError("Yahoo reports no currency")
    return str(currency)


def _actions(history: Any, ticker: str, currency: str) -> pd.DataFrame:
    """Return the actions on Yahoo's ex-dates."""
    # Only these private attributes have the ex-dates: the table moves an action without a bar, and
    # the public methods send further requests.
    dividends, splits = pd.DataFrame(history._dividends), history._splits
    if "currency" in dividends:
        foreign = set(dividends["currency"].dropna()) - {currency, ""}
        if foreign:
            raise RefusedError(
                f"its dividends are in {', '.join(sorted(foreign))}, its prices in {currency}: "
                "they cannot be stored together"
            )
    paid = dividends["Dividends"].astype(float)
    # Yahoo rounds: a tiny dividend is zero.
    paid, ratios = paid[paid != 0.0], splits.astype(float)
    for kind, values in ((DIVIDEND, paid), (SPLIT, ratios)):
        odd = ~values.between(0.0, np.inf, inclusive="neither")
        if odd.any():
            raise RefusedError(
                f"Yahoo reports a {kind} of {values[odd].iloc[0]} "
                f"on {_days(values[odd])[0]:%Y-%m-%d}"
            )
    known = {
        DIVIDEND: paid.groupby(_days(paid)).sum(),
        SPLIT: ratios.groupby(_days(ratios)).prod(),
    }
    parts = [
        values.rename("value").rename_axis("ex_date").reset_index().assign(ticker=ticker, kind=kind)
        for kind, values in known.items()
    ]
    return tidy_actions(pd.concat(parts))


def _days(values: pd.Series) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(values.index).tz_localize(None).normalize()
