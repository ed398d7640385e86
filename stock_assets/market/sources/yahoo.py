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
    connection,
    fetch_chart,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

_MINIMUM_SESSIONS = 5
"""A sound answer has at least one bar in this many consecutive sessions."""
_SKIPPED = "not requested after many consecutive failures: "


class YahooSource:
    """Daily bars from Yahoo, one request per ticker.

    Yahoo divides its prices by every split up to the moment of the request. Each request therefore
    runs to the present, so that the answer has all those splits and they can be undone; it is cut
    to the range afterwards. A session that has not closed has no bar. An action with a future
    ex-date is left out: Yahoo has not applied it yet.

    Parameters
    ----------
    settings : config.Yahoo
        Rate, timeout and retries of requests.
    now : callable
        Returns the current time with its time zone.
    """

    name = "yahoo"
    last_session = None

    def __init__(
        self, settings: config.Yahoo, now: Callable[[], datetime] = calendar.utc_now
    ) -> None:
        self._settings = settings
        self._now = now

    def fetch(self, starts: Mapping[str, date], last: date) -> Fetch:
        """Fetch bars as traded; see ``PriceSource.fetch``.

        A ticker without a bar from its start on has failed: requests overlap with a stored session.
        If no session has closed since the start, a few earlier ones are requested, since a sound
        answer has at least one bar.

        Raises
        ------
        StockAssetsError
            Yahoo could not be reached for any ticker.
        """
        now = self._now()
        closed = calendar.last_closed_session(now)
        today = now.astimezone(ZoneInfo(calendar.TIMEZONE)).date()
        end = min(last, closed)
        latest = calendar.previous_session(end, _MINIMUM_SESSIONS - 1)
        requests = {ticker: min(start, latest) for ticker, start in starts.items()}
        found: dict[str, Fetch] = {}
        errors: dict[str, Exception] = {}
        with closing(BatchFetcher(self._settings, len(requests)).fetch_all(requests)) as outcomes:
            for ticker, outcome in outcomes:
                try:
                    chart = outcome.result()
                    traded = _traded(chart, starts[ticker], end, today)
                    currencies = {ticker: chart.currency}
                    found[ticker] = replace(traded, currencies=currencies, provisional=closed)
                except (RefusedError, NoAnswerError) as error:
                    errors[ticker] = error
        _require_any_answer(errors, len(requests))
        failures = {ticker: str(errors[ticker]) for ticker in sorted(errors)}
        return concat_fetches((found[ticker] for ticker in sorted(found)), failures)


def _traded(chart: Chart, start: date, end: date, today: date) -> Fetch:
    """Return bars and actions as traded from a start on, at least one bar if one can exist."""
    closed = chart.bars[chart.bars["session"] <= pd.Timestamp(end)]
    kept = closed[closed["session"] >= pd.Timestamp(start)]
    if closed.empty or (kept.empty and start <= end):
        raise RefusedError(f"Yahoo has no bar from {start} to {end}: late, halted or delisted")
    known = chart.actions[chart.actions["ex_date"] <= pd.Timestamp(today)]
    try:
        traded = as_traded(kept, known, chart.currency)
    except StockAssetsError as error:
        raise RefusedError(f"Yahoo's history cannot be stored: {error.problem}") from error
    actions = traded.actions[traded.actions["ex_date"] >= pd.Timestamp(start)]
    return replace(traded, actions=actions.reset_index(drop=True))


def _require_any_answer(errors: Mapping[str, Exception], requests: int) -> None:
    """Fail if Yahoo was unreachable for every ticker."""
    unreachable = [error for error in errors.values() if isinstance(error, UnreachableError)]
    if unreachable and len(unreachable) == requests:
        raise StockAssetsError(
            f"Yahoo was unreachable for {requests} of {requests} tickers: "
            f"{str(unreachable[0]).removeprefix(_SKIPPED)}",
            "Check the network and HTTPS_PROXY, then run this again",
        )


class BatchFetcher:
    """The requests of one fetch: parallel, at one rate, and stopped together."""

    def __init__(self, settings: config.Yahoo, tickers: int) -> None:
        import tenacity

        self._settings = settings
        self._connection = connection()
        self._workers = max(1, min(settings.workers, tickers))
        self._stopped = threading.Event()
        self._last: NoAnswerError = NoAnswerError("no failure")
        self._rate = RateLimiter(settings.requests_per_second, sleep=self._stopped.wait)
        self._failures = ConsecutiveFailures()
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
            before_sleep=self._pause_all,
            sleep=tenacity.sleep_using_event(self._stopped),
            reraise=True,
        )

    def fetch_all(self, starts: Mapping[str, date]) -> Generator[tuple[str, Future[Chart]]]:
        """Fetch every ticker; yield each with its outcome as soon as it is complete."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="yahoo") as pool:
            try:
                requests = {
                    pool.submit(self._retrying, self._fetch, ticker, start): ticker
                    for ticker, start in starts.items()
                }
                for done in bar(as_completed(requests), "Yahoo", len(requests)):
                    yield requests[done], done
            finally:
                self._stopped.set()

    def _fetch(self, ticker: str, start: date) -> Chart:
        """Send one request."""
        self._rate.wait()
        if self._stopped.is_set():
            raise type(self._last)(f"{_SKIPPED}{self._last}")
        try:
            chart = fetch_chart(self._connection, ticker, start, self._settings.timeout_seconds)
        except RefusedError:
            self._failures.reset()
            raise
        except NoAnswerError as error:
            self._stop_if_all_fail(ticker, error)
            raise
        self._failures.reset()
        return chart

    def _stop_if_all_fail(self, ticker: str, error: NoAnswerError) -> None:
        """Stop all requests once twice as many tickers as workers have failed in a row.

        While Yahoo is unreachable and has never answered, the failed requests of two or more
        tickers count instead.
        """
        requests, tickers = self._failures.record(ticker)
        offline = isinstance(error, UnreachableError) and not self._failures.ever_answered
        failed = requests if offline and tickers > 1 else tickers
        if failed >= 2 * self._workers:
            self._last = error
            self._stopped.set()

    def _pause_all(self, state: RetryCallState) -> None:
        """Delay all requests when Yahoo limits their rate."""
        outcome = state.outcome
        if outcome and isinstance(outcome.exception(), LimitedError):
            self._rate.pause(state.upcoming_sleep)
