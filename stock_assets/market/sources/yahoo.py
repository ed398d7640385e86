"""Yahoo Finance, through yfinance, as a live price source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pandas as pd

from stock_assets import config
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.progress import bar
from stock_assets.market import calendar
from stock_assets.market.sources.base import Fetch, concat_fetches
from stock_assets.market.sources.history import as_traded
from stock_assets.market.sources.rate_limits import ConsecutiveFailures, RateLimiter
from stock_assets.market.sources.yahoo_chart import (
    Chart,
    LimitedError,
    NoAnswerError,
    RefusedError,
    UnreachableError,
    ask,
    connection,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

_SOUND_SESSIONS = 5
"""Of so many sessions in a row, a sound answer has at least one."""
_SPARED = "not asked any more, after many in a row: "


class YahooSource:
    """Daily bars from Yahoo, one request per ticker.

    Yahoo divides its prices by every split up to the moment of the request. Each request therefore
    runs to the present, so that all those splits are in the answer and can be undone, and is cut to
    the range afterwards. A session that has not closed has no bar, and an action whose ex-date is
    still to come is left out: Yahoo has not applied it yet.

    Parameters
    ----------
    settings : config.Yahoo
        How fast, how long and how often to ask.
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

    def fetch(self, starts: Mapping[str, date], last: date) -> Fetch:
        """Get bars as traded; see ``PriceSource.fetch``.

        A ticker without a bar from its start on has failed, since a caller that asks for some
        stored session again always gets one. Only where no session has closed since the start is
        there nothing to get; a few earlier ones are asked for then, to tell a sound answer from one
        without any bar.

        Raises
        ------
        StockAssetsError
            Yahoo could not be reached for any ticker.
        """
        now = self._now()
        closed = calendar.last_closed_session(now)
        today = now.astimezone(ZoneInfo(calendar.TIMEZONE)).date()
        end = min(last, closed)
        sound = calendar.previous_session(end, _SOUND_SESSIONS - 1)
        asked = {ticker: min(start, sound) for ticker, start in starts.items()}
        found: dict[str, Fetch] = {}
        errors: dict[str, Exception] = {}
        with closing(BatchFetcher(self._settings, len(asked)).ask_all(asked)) as outcomes:
            for ticker, outcome in outcomes:
                try:
                    chart = outcome.result()
                    traded = _traded(chart, starts[ticker], end, today)
                    currencies = {ticker: chart.currency}
                    found[ticker] = replace(traded, currencies=currencies, provisional=closed)
                except (RefusedError, NoAnswerError) as error:
                    errors[ticker] = error
        _refuse_silence(errors, len(asked))
        failures = {ticker: str(errors[ticker]) for ticker in sorted(errors)}
        return concat_fetches((found[ticker] for ticker in sorted(found)), failures)


def _traded(chart: Chart, start: date, end: date, today: date) -> Fetch:
    """Give what traded from a start on; there must be a bar wherever there can be one."""
    closed = chart.bars[chart.bars["session"] <= pd.Timestamp(end)]
    kept = closed[closed["session"] >= pd.Timestamp(start)]
    if closed.empty or (kept.empty and start <= end):
        raise RefusedError(
            f"Yahoo shows no bar of it from {start} to {end}: late, halted or delisted"
        )
    known = chart.actions[chart.actions["ex_date"] <= pd.Timestamp(today)]
    try:
        traded = as_traded(kept, known, chart.currency)
    except StockAssetsError as error:
        raise RefusedError(f"Yahoo shows what cannot be stored: {error.problem}") from error
    actions = traded.actions[traded.actions["ex_date"] >= pd.Timestamp(start)]
    return replace(traded, actions=actions.reset_index(drop=True))


def _refuse_silence(errors: Mapping[str, Exception], asked: int) -> None:
    """Raise if nothing came back for anyone."""
    silent = [error for error in errors.values() if isinstance(error, UnreachableError)]
    if silent and len(silent) == asked:
        raise StockAssetsError(
            f"none of {asked} tickers could be asked for: {str(silent[0]).removeprefix(_SPARED)}",
            "Check the network and the proxy that HTTPS_PROXY names, then run this again",
        )


class BatchFetcher:
    """The requests of one fetch: a few at a time, at one pace, given up together."""

    def __init__(self, settings: config.Yahoo, tickers: int) -> None:
        import tenacity

        self._settings = settings
        self._connection = connection()
        self._at_once = max(1, min(settings.workers, tickers))
        self._stopped = threading.Event()
        self._last: NoAnswerError = NoAnswerError("nothing has gone wrong")
        self._pace = RateLimiter(settings.requests_per_second, sleep=self._stopped.wait)
        self._silence = ConsecutiveFailures()
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(NoAnswerError),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(settings.attempts),
                tenacity.stop_when_event_set(self._stopped),
            ),
            wait=tenacity.wait_exponential_jitter(
                multiplier=settings.backoff_seconds,
                max=settings.backoff_limit_seconds,
                jitter=settings.backoff_seconds,
            ),
            before_sleep=self._share_the_wait,
            sleep=tenacity.sleep_using_event(self._stopped),
            reraise=True,
        )

    def ask_all(self, starts: Mapping[str, date]) -> Generator[tuple[str, Future[Chart]]]:
        """Ask for every ticker; gives each with its outcome as soon as it is there."""
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="yahoo") as pool:
            try:
                asked = {
                    pool.submit(self._retrying, self._ask, ticker, start): ticker
                    for ticker, start in starts.items()
                }
                for done in bar(as_completed(asked), "Yahoo", len(asked)):
                    yield asked[done], done
            finally:
                self._stopped.set()

    def _ask(self, ticker: str, start: date) -> Chart:
        """Ask once."""
        self._pace.wait()
        if self._stopped.is_set():
            raise type(self._last)(f"{_SPARED}{self._last}")
        try:
            chart = ask(self._connection, ticker, start, self._settings.timeout_seconds)
        except RefusedError:
            self._silence.end()
            raise
        except NoAnswerError as trouble:
            self._stop_if_useless(ticker, trouble)
            raise
        self._silence.end()
        return chart

    def _stop_if_useless(self, ticker: str, trouble: NoAnswerError) -> None:
        """Stop everyone when it is not one ticker, nor those asked with it, that fails."""
        requests, tickers = self._silence.grow(ticker)
        nobody_there = isinstance(trouble, UnreachableError) and not self._silence.broken
        stuck = requests if nobody_there and tickers > 1 else tickers
        if stuck >= 2 * self._at_once:
            self._last = trouble
            self._stopped.set()

    def _share_the_wait(self, state: RetryCallState) -> None:
        """Let everybody wait when Yahoo wants fewer requests."""
        outcome = state.outcome
        if outcome and isinstance(outcome.exception(), LimitedError):
            self._pace.pause(state.upcoming_sleep)
