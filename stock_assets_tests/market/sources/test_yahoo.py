"""The real yfinance, asked by the project, answered by a Yahoo on this machine."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from stock_assets.config import Yahoo as YahooSettings
from stock_assets.market.sources.sample import load_sample
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets_tests.market import yahoo_loopback

AFTER_THE_SAMPLE = datetime(2013, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yahoo")
    with (
        yahoo_loopback.serve(load_sample(), AFTER_THE_SAMPLE, folder) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def yahoo(server):
    """The server as it was at first, and a yfinance that has never asked it."""
    from curl_cffi.requests import Session
    from yfinance.data import YfData

    server.now = AFTER_THE_SAMPLE
    server.faults.clear()
    server.log.clear()
    YfData(session=Session(impersonate="chrome"))
    return server


@pytest.fixture
def source(yahoo):
    settings = YahooSettings(pause_seconds=0.0, timeout_seconds=10.0)
    return YahooSource(settings, now=lambda: yahoo.now)


def traded(tickers, first, last):
    """The bars that the source is to find."""
    bars = load_sample()
    wanted = bars["ticker"].isin(tickers) & bars["session"].between(first, last)
    return bars[wanted].reset_index(drop=True)


def assert_same_bars(found, expected):
    assert_frame_equal(found, expected, rtol=1e-12)


def test_a_range_brings_every_bar_in_it_as_traded(source):
    fetch = source.fetch(["IBM", "MSFT"], date(2013, 1, 2), date(2013, 1, 31))
    assert fetch.failures == {}
    assert_same_bars(fetch.bars, traded(["IBM", "MSFT"], "2013-01-02", "2013-01-31"))


def test_splits_known_at_fetch_time_are_undone(source, yahoo):
    # AAPL traded at 89 before its 2:1 split of 2005-02-28; Yahoo shows half of that ever since.
    assert yahoo.shown("AAPL").set_index("session").loc["2005-02-24", "close"] == 44.465
    fetch = source.fetch(["AAPL"], date(2005, 2, 24), date(2005, 3, 1))
    assert_same_bars(fetch.bars, traded(["AAPL"], "2005-02-24", "2005-03-01"))
    assert fetch.bars["close"].round(2).tolist() == [88.93, 88.99, 44.86, 44.5]
    assert fetch.bars["stock_splits"].tolist() == [0.0, 0.0, 2.0, 0.0]


def test_a_range_that_ends_before_a_split_is_the_same_before_and_after_the_split(source, yahoo):
    asked = (["AAPL"], date(2005, 2, 1), date(2005, 2, 25))
    yahoo.now = datetime(2005, 2, 26, 12, tzinfo=UTC)
    before = source.fetch(*asked)
    yahoo.now = AFTER_THE_SAMPLE
    after = source.fetch(*asked)
    assert_same_bars(before.bars, traded(["AAPL"], "2005-02-01", "2005-02-25"))
    assert_same_bars(after.bars, before.bars)


def test_dividends_arrive_on_their_ex_date_as_declared(source):
    # IBM's of 2013-02-06, and MSFT's of 2003-02-19, a day after a split.
    ibm = source.fetch(["IBM"], date(2013, 2, 1), date(2013, 2, 28)).bars
    assert ibm.loc[ibm["dividends"] > 0, ["session", "dividends"]].to_numpy().tolist() == [
        [pd.Timestamp("2013-02-06"), 0.85]
    ]
    msft = source.fetch(["MSFT"], date(2003, 2, 14), date(2003, 2, 20)).bars
    assert_same_bars(msft, traded(["MSFT"], "2003-02-14", "2003-02-20"))


def test_an_unknown_ticker_is_a_failure_and_the_others_arrive(source):
    fetch = source.fetch(["IBM", "NOSUCH", "MSFT"], date(2013, 2, 1), date(2013, 2, 28))
    assert list(fetch.failures) == ["NOSUCH"]
    assert fetch.failures["NOSUCH"]
    assert_same_bars(fetch.bars, traded(["IBM", "MSFT"], "2013-02-01", "2013-02-28"))


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (429, "Too Many Requests", "YFRateLimitError"),
        (200, '{"chart": {"resu', "JSONDecodeError"),
        (200, "<html>Will be right back...</html>", "JSONDecodeError|YFDataException"),
    ],
)
def test_a_broken_answer_is_a_failure_with_its_reason(source, yahoo, status, body, reason):
    yahoo.faults["IBM"] = (status, body)
    fetch = source.fetch(["IBM", "MSFT"], date(2013, 2, 1), date(2013, 2, 28))
    assert list(fetch.failures) == ["IBM"]
    assert fetch.failures["IBM"].split(":")[0] in reason.split("|")
    assert set(fetch.bars["ticker"]) == {"MSFT"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"chart": {"result": [{"meta": {}}], "error": null}}', "KeyError"),
        ('{"chart": 1}', "TypeError"),
    ],
)
def test_an_answer_of_another_shape_is_the_failure_of_its_ticker(source, yahoo, body, reason):
    yahoo.faults["IBM"] = (200, body)
    fetch = source.fetch(["IBM", "MSFT"], date(2013, 2, 1), date(2013, 2, 28))
    assert list(fetch.failures) == ["IBM"]
    assert fetch.failures["IBM"].startswith(f"{reason}: ")
    assert set(fetch.bars["ticker"]) == {"MSFT"}


def test_a_failure_is_not_remembered(source, yahoo):
    asked = (["GOOG"], date(2013, 2, 1), date(2013, 2, 28))
    yahoo.faults["GOOG"] = (200, '{"chart": {"resu')
    assert list(source.fetch(*asked).failures) == ["GOOG"]
    yahoo.faults.clear()
    assert source.fetch(*asked).failures == {}


def test_nothing_new_is_no_failure(source):
    fetch = source.fetch(["IBM"], date(2013, 3, 4), date(2013, 3, 8))
    assert fetch.failures == {}
    assert fetch.bars.empty


def test_an_answer_without_any_bar_is_a_failure(source):
    fetch = source.fetch(["IBM"], date(2013, 3, 11), date(2013, 3, 15))
    assert list(fetch.failures) == ["IBM"]
    assert fetch.bars.empty


def test_every_ticker_can_fail(source):
    fetch = source.fetch(["NONE", "NOSUCH"], date(2013, 2, 1), date(2013, 2, 28))
    assert list(fetch.failures) == ["NONE", "NOSUCH"]
    assert fetch.bars.empty


def test_the_bar_of_an_open_session_is_left_out(source, yahoo):
    asked = (["IBM"], date(2013, 2, 25), date(2013, 2, 28))
    yahoo.now = datetime(2013, 2, 28, 15, 0, tzinfo=yahoo_loopback.NEW_YORK)
    assert yahoo.shown("IBM")["session"].max() == pd.Timestamp("2013-02-28")
    assert_same_bars(source.fetch(*asked).bars, traded(["IBM"], "2013-02-25", "2013-02-27"))
    yahoo.now = datetime(2013, 2, 28, 16, 30, tzinfo=yahoo_loopback.NEW_YORK)
    assert_same_bars(source.fetch(*asked).bars, traded(["IBM"], "2013-02-25", "2013-02-28"))


def test_a_split_on_the_morning_of_an_open_session_is_undone_too(source, yahoo):
    yahoo.now = datetime(2005, 2, 28, 11, 0, tzinfo=yahoo_loopback.NEW_YORK)
    fetch = source.fetch(["AAPL"], date(2005, 2, 22), date(2005, 2, 28))
    assert_same_bars(fetch.bars, traded(["AAPL"], "2005-02-22", "2005-02-25"))


def test_a_row_without_prices_is_no_bar(source, yahoo, monkeypatch):
    def null_last_row(ticker, shown, chart=yahoo.chart):
        content = chart(ticker, shown)
        for values in content["indicators"]["quote"][0].values():
            values[-1] = None
        content["events"]["dividends"]["0"] = {"amount": 0.5, "date": content["timestamp"][-1]}
        return content

    monkeypatch.setattr(yahoo, "chart", null_last_row)
    fetch = source.fetch(["GOOG"], date(2013, 2, 25), date(2013, 3, 1))
    assert_same_bars(fetch.bars, traded(["GOOG"], "2013-02-25", "2013-02-28"))


def test_each_ticker_costs_one_request_once_yahoo_is_known(source, yahoo):
    asked = (["IBM", "MSFT"], date(2013, 2, 1), date(2013, 2, 28))
    source.fetch(*asked)
    yahoo.log.clear()
    source.fetch(*asked)
    assert [path.rsplit("/", 1)[-1] for path in yahoo.log] == ["IBM", "MSFT"]


def test_yahoo_is_given_a_rest_between_two_tickers(yahoo, monkeypatch):
    rests = []
    monkeypatch.setattr("stock_assets.market.sources.yahoo.time.sleep", rests.append)
    source = YahooSource(YahooSettings(pause_seconds=0.5), now=lambda: yahoo.now)
    source.fetch(["FB", "IBM", "MSFT"], date(2013, 2, 25), date(2013, 2, 28))
    assert rests == [0.5, 0.5]


def test_the_source_is_live():
    source = YahooSource(YahooSettings())
    assert (source.name, source.last_session) == ("yahoo", None)
