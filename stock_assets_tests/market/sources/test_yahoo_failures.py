"""Faults of Yahoo and the failures that a fetch reports."""

from __future__ import annotations

import re
import socket
from datetime import date

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from stock_assets.core.errors import StockAssetsError
from stock_assets.market.sources.base import clip_to_request
from stock_assets_tests.market import yahoo_faults as faults
from stock_assets_tests.market.sources.conftest import SAMPLE
from stock_assets_tests.market.yahoo_loopback import EVERYONE

ASKED = (dict.fromkeys(["GOOG", "IBM", "MSFT"], date(2013, 2, 1)), date(2013, 3, 1))
WELL = clip_to_request(SAMPLE, *ASKED)

PASSING = {
    "limited": (faults.limited, r"Yahoo limits the rate of requests \(HTTP 429\); run this again"),
    "server error": (faults.status(500), "Yahoo answered HTTP 500"),
    "unavailable": (faults.down, "Yahoo answered HTTP 503"),
    "an apology": (faults.apologetic, "Yahoo reports that it is down"),
    "cut": (faults.cut, r"Yahoo's answer cannot be read \(JSONDecodeError"),
    "no JSON": (faults.html, r"Yahoo's answer cannot be read \(JSONDecodeError"),
    "empty": (faults.empty, "Yahoo's answer has no price from 2013-02-01 on: if this stays so"),
    "a list": (faults.status(200, "[]"), "Yahoo's answer has no price from 2013-02-01 on"),
    "another shape": (faults.status(200, '{"chart": 1}'), r"cannot be read \(TypeError"),
    "no currency": (faults.meta(currency=None), r"cannot be read \(KeyError: 'currency'\)"),
    "a dividend that is no number": (
        faults.announced("dividends", "2013-02-27", amount=[]),
        r"Yahoo's answer cannot be read \(ValueError",
    ),
    "dropped": (faults.dropped, r"no answer from Yahoo \(curl: \(\d+\) [^()]*\)$"),
}
FINAL = {
    "delisted": (
        faults.delisted,
        r"^Yahoo has no data for it \(No data found, symbol may be delisted\): delisted or "
        r"renamed\? Remove it from prices.tickers or add a rename$",
    ),
    "another time zone": (
        faults.meta(exchangeTimezoneName="Europe/London"),
        "time zone Europe/London",
    ),
    "foreign dividends": (
        faults.dividends_in("CAD"),
        "its dividends are in CAD, its prices in USD: they cannot be stored together",
    ),
    "a negative dividend": (
        faults.announced("dividends", "2013-02-27", amount=-0.5),
        "Yahoo reports a dividend of -0.5 on 2013-02-27",
    ),
    "a dividend above the price": (
        faults.announced("dividends", "2013-02-27", amount=300.0),
        "IBM 2013-02-27: the dividend of 300.0 is not smaller than the close before it",
    ),
    "a split into nothing": (
        faults.announced("splits", "2013-02-27", numerator=0, denominator=1),
        "Yahoo reports a split of 0.0 on 2013-02-27",
    ),
}


def cases(table, *kept):
    """Return the cases of a table; only those that are kept are in the default suite, if any."""
    return [
        pytest.param(*case, id=name, marks=() if name in kept or not kept else pytest.mark.long)
        for name, case in table.items()
    ]


def assert_only_ibm_failed(fetch, reason):
    """One clear line for IBM; everything of the others."""
    assert list(fetch.failures) == ["IBM"]
    assert re.search(reason, fetch.failures["IBM"])
    assert "\n" not in fetch.failures["IBM"]
    others = clip_to_request(SAMPLE, dict.fromkeys(["GOOG", "MSFT"], date(2013, 2, 1)), ASKED[1])
    assert_frame_equal(fetch.bars, others.bars, check_exact=True)
    assert_frame_equal(fetch.actions, others.actions, check_exact=True)
    assert fetch.currencies == others.currencies


def assert_well(fetch):
    assert fetch.failures == {}
    assert_frame_equal(fetch.bars, WELL.bars, check_exact=True)


class TestAFailureThatMayPass:
    @pytest.mark.parametrize(("fault", "reason"), cases(PASSING))
    def test_fails_its_ticker_alone_after_all_attempts(self, open_yahoo, yahoo, fault, reason):
        yahoo.always_answers("IBM", fault)
        fetch = open_yahoo(attempts=3).fetch(*ASKED)
        assert_only_ibm_failed(fetch, reason)
        assert yahoo.charts.count("IBM") == 3

    @pytest.mark.parametrize(("fault", "reason"), cases(PASSING, "limited", "cut", "dropped"))
    def test_is_made_good_by_another_attempt(self, open_yahoo, yahoo, fault, reason):
        yahoo.answers("IBM", fault, fault)
        assert_well(open_yahoo(attempts=3).fetch(*ASKED))

    def test_may_be_a_cookie_that_yahoo_does_not_take(self, open_yahoo, yahoo):
        unauthorized = faults.status(401, '{"finance": {}}')
        yahoo.answers("IBM", unauthorized)
        assert_well(open_yahoo(attempts=1).fetch(*ASKED))  # yfinance repeats it with another
        yahoo.always_answers("IBM", unauthorized)
        assert_only_ibm_failed(open_yahoo().fetch(*ASKED), "Yahoo's answer has no price")

    def test_may_change_from_attempt_to_attempt(self, open_yahoo, yahoo):
        yahoo.answers("IBM", faults.limited, faults.cut, faults.status(500), faults.dropped)
        assert_well(open_yahoo(attempts=5).fetch(*ASKED))

    def test_is_not_remembered_by_the_next_fetch(self, open_yahoo, yahoo):
        yahoo.always_answers("IBM", faults.cut)
        source = open_yahoo(attempts=1)
        assert list(source.fetch(*ASKED).failures) == ["IBM"]
        yahoo.recover()
        assert_well(source.fetch(*ASKED))

    def test_may_be_an_answer_that_comes_too_late(self, open_yahoo, yahoo):
        yahoo.answers("IBM", faults.late)
        assert_well(open_yahoo(timeout_seconds=1.0).fetch(*ASKED))
        yahoo.answers("IBM", faults.late)
        fetch = open_yahoo(timeout_seconds=1.0, attempts=1).fetch(*ASKED)
        assert_only_ibm_failed(fetch, r"no answer from Yahoo \(curl: \(28\) .*timed out")


class TestAFinalAnswer:
    @pytest.mark.parametrize(("fault", "reason"), cases(FINAL))
    def test_fails_its_ticker_alone_at_once(self, source, yahoo, fault, reason):
        yahoo.answers("IBM", fault, fault)  # twice, since yfinance repeats a 404 itself
        assert_only_ibm_failed(source.fetch(*ASKED), reason)

    def test_names_what_to_do_about_an_unknown_ticker(self, source):
        fetch = source.fetch({"IBM": date(2013, 2, 1), "NOSUCH": date(2013, 2, 1)}, ASKED[1])
        assert list(fetch.failures) == ["NOSUCH"]
        assert fetch.failures["NOSUCH"].endswith("Remove it from prices.tickers or add a rename")

    def test_may_be_the_one_of_every_ticker(self, source):
        fetch = source.fetch(dict.fromkeys(["NONE", "NOSUCH"], date(2013, 2, 1)), ASKED[1])
        assert list(fetch.failures) == ["NONE", "NOSUCH"]
        assert fetch.bars.empty and fetch.actions.empty and fetch.currencies == {}


def many(count):
    """As many tickers, each with the bars of IBM."""
    ibm = SAMPLE[SAMPLE["ticker"] == "IBM"].tail(30)
    return pd.concat([ibm.assign(ticker=f"T{number:03d}") for number in range(count)])


def fetch_many(source, count):
    return source.fetch({f"T{number:03d}": date(2013, 2, 1) for number in range(count)}, ASKED[1])


class TestManyTickers:
    def test_arrive_but_for_those_that_fail(self, open_yahoo, yahoo):
        yahoo.list_anew(many(40))
        for number in range(0, 40, 4):
            yahoo.always_answers(f"T{number:03d}", faults.cut)
            yahoo.answers(f"T{number + 1:03d}", faults.limited)
        fetch = fetch_many(open_yahoo(), 40)
        assert list(fetch.failures) == [f"T{number:03d}" for number in range(0, 40, 4)]
        assert fetch.bars["ticker"].nunique() == 30

    def test_neighbours_that_all_fail_do_not_stop_the_others(self, open_yahoo, yahoo):
        yahoo.list_anew(many(12))
        bad = [f"T{number:03d}" for number in range(4)]
        for ticker in bad:
            yahoo.always_answers(ticker, faults.empty)
        fetch = fetch_many(open_yahoo(workers=4), 12)
        assert list(fetch.failures) == bad

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (faults.limited, "Yahoo limits the rate of requests (HTTP 429); run this again later"),
            (faults.down, "Yahoo answered HTTP 503"),
        ],
        ids=["limited", "down"],
    )
    def test_are_not_all_requested_when_yahoo_answers_none(self, open_yahoo, yahoo, fault, reason):
        yahoo.list_anew(many(100))
        yahoo.always_answers(EVERYONE, fault)
        fetch = fetch_many(open_yahoo(workers=4, attempts=3), 100)
        assert len(fetch.failures) == 100
        stopped = [text for text in fetch.failures.values() if text.startswith("not requested")]
        assert set(stopped) == {f"not requested after many consecutive failures: {reason}"}
        assert len(stopped) >= 88
        # Four tickers with all their attempts, and at most the first ones of the next eight.
        assert len(yahoo.charts) <= 4 * 3 + 8 * 3

    def test_are_requested_again_once_yahoo_answers(self, open_yahoo, yahoo):
        yahoo.list_anew(many(20))
        yahoo.answers(EVERYONE, *[faults.limited] * 6)
        assert fetch_many(open_yahoo(workers=4), 20).failures == {}

    def test_keep_what_arrived_before_yahoo_fell_silent(self, open_yahoo, yahoo):
        yahoo.list_anew(many(60))
        yahoo.answers(EVERYONE, *[faults.sound] * 20)
        yahoo.always_answers(EVERYONE, faults.dropped)
        fetch = fetch_many(open_yahoo(workers=4, attempts=2), 60)
        assert fetch.bars["ticker"].nunique() == 20
        assert len(fetch.failures) == 40
        # Twelve tickers at most; curl itself repeats what it sent on a connection that was closed.
        assert len(yahoo.charts) <= 20 + 12 * 2 + 4


class TestNoNetwork:
    @pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "http://no-such-host.invalid:1"])
    def test_is_one_line_after_a_few_requests(self, open_yahoo, yahoo, monkeypatch, proxy):
        assert_well(open_yahoo().fetch(*ASKED))
        monkeypatch.setenv("https_proxy", proxy)
        with pytest.raises(StockAssetsError) as raised:
            fetch_many(open_yahoo(), 500)
        assert raised.match(
            r"Yahoo was unreachable for 500 of 500 tickers: no answer from Yahoo \(curl: "
        )
        assert raised.value.remedy.startswith("Check the network")
        assert "\n" not in str(raised.value)

    def test_is_distinguished_from_a_slow_network_by_waiting(self, open_yahoo, yahoo, monkeypatch):
        assert_well(open_yahoo().fetch(*ASKED))
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(StockAssetsError, match="timed out"):
                fetch_many(open_yahoo(timeout_seconds=0.2), 500)

    def test_is_found_for_a_single_ticker_too(self, open_yahoo, yahoo, monkeypatch):
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        with pytest.raises(StockAssetsError, match="for 1 of 1 tickers"):
            fetch_many(open_yahoo(), 1)
