"""The number and rate of requests to Yahoo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from datetime import date

from stock_assets_tests.market import yahoo_faults as faults
from stock_assets_tests.market.yahoo_loopback import EVERYONE

TICKERS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
ASKED = (dict.fromkeys(TICKERS, date(2013, 2, 1)), date(2013, 3, 1))

FIRST_OF_A_PROCESS = """
from datetime import UTC, date, datetime
from stock_assets.config import Yahoo
from stock_assets.market.sources.yahoo import YahooSource

source = YahooSource(Yahoo(requests_per_second=1000), lambda: datetime(2013, 3, 2, tzinfo=UTC))
starts = dict.fromkeys(["AAPL", "FB", "GOOG", "IBM", "MSFT"], date(2013, 2, 1))
assert source.fetch(starts, date(2013, 3, 1)).failures == {}
"""


def test_a_new_process_requests_one_cookie_and_each_ticker_once(yahoo):
    environment = os.environ | yahoo.environment
    subprocess.run([sys.executable, "-c", FIRST_OF_A_PROCESS], env=environment, check=True)
    cookie, crumb, *charts = yahoo.log
    assert (cookie, crumb) == ("fc.yahoo.com/", "query1.finance.yahoo.com/v1/test/getcrumb")
    assert len(charts) == len(TICKERS)
    assert sorted(yahoo.charts) == TICKERS


def test_a_second_fetch_requests_each_ticker_once_and_nothing_else(source, yahoo):
    source.fetch(*ASKED)
    yahoo.recover()
    source.fetch(*ASKED)
    assert sorted(path.rsplit("/", 1)[-1] for path in yahoo.log) == TICKERS


def test_dividends_splits_and_currency_cost_no_request(source, yahoo):
    source.fetch(*ASKED)
    yahoo.recover()
    fetch = source.fetch({"AAPL": date(2000, 3, 1)}, date(2013, 3, 1))
    assert set(fetch.actions["kind"]) == {"dividend", "split"}
    assert fetch.currencies == {"AAPL": "USD"}
    assert len(yahoo.log) == 1


def test_an_unknown_ticker_costs_yfinance_a_repeat_with_another_cookie(source, yahoo):
    source.fetch(*ASKED)
    yahoo.recover()
    source.fetch({"NOSUCH": date(2013, 2, 1)}, date(2013, 3, 1))
    assert [path.rsplit("/", 1)[-1] for path in yahoo.log] == ["NOSUCH", "getcrumb", "NOSUCH"]


def test_a_ticker_is_requested_at_most_attempts_times(open_yahoo, yahoo):
    yahoo.always_answers(EVERYONE, faults.status(500))
    fetch = open_yahoo(attempts=3, workers=8).fetch(*ASKED)
    assert list(fetch.failures) == TICKERS
    assert Counter(yahoo.charts) == dict.fromkeys(TICKERS, 3)


def paces(monkeypatch):
    """Record the calls of the source's rate limiter."""
    from stock_assets.market.sources import rate_limits

    made, pauses = [], []

    class Watched(rate_limits.RateLimiter):
        def __init__(self, per_second, sleep):
            made.append(per_second)
            super().__init__(per_second, sleep)

        def pause(self, seconds):
            pauses.append(seconds)
            super().pause(seconds)

    monkeypatch.setattr("stock_assets.market.sources.yahoo.RateLimiter", Watched)
    return made, pauses


def test_all_workers_share_one_pace(open_yahoo, monkeypatch):
    made, pauses = paces(monkeypatch)
    open_yahoo(workers=4, requests_per_second=500.0).fetch(*ASKED)
    assert made == [500.0]
    assert pauses == []


def test_a_limit_is_a_longer_pause_for_everyone_each_time(open_yahoo, yahoo, monkeypatch):
    _, pauses = paces(monkeypatch)
    yahoo.answers("IBM", faults.limited, faults.limited, faults.limited)
    open_yahoo(attempts=4, backoff_seconds=0.01).fetch(*ASKED)
    assert len(pauses) == 3
    for pause, least in zip(pauses, [0.01, 0.02, 0.04], strict=True):
        assert least <= pause <= least + 0.01


def test_no_pause_is_longer_than_the_limit_of_backoff(open_yahoo, yahoo, monkeypatch):
    _, pauses = paces(monkeypatch)
    yahoo.answers("IBM", *[faults.limited] * 5)
    open_yahoo(attempts=6, backoff_seconds=0.01, backoff_limit_seconds=0.03).fetch(*ASKED)
    assert max(pauses) == 0.03


def test_another_failure_is_no_pause_for_the_others(open_yahoo, yahoo, monkeypatch):
    _, pauses = paces(monkeypatch)
    yahoo.answers("IBM", faults.status(500), faults.cut, faults.dropped)
    assert open_yahoo(attempts=4).fetch(*ASKED).failures == {}
    assert pauses == []
