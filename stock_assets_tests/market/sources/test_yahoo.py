"""Prices as traded, recovered from Yahoo's adjusted ones."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from stock_assets.config import Yahoo as YahooSettings
from stock_assets.market.corporate_actions import actions_of
from stock_assets.market.sources.base import clip_to_request
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets_tests.market import yahoo_faults as faults
from stock_assets_tests.market.sources.conftest import SAMPLE
from stock_assets_tests.market.yahoo_loopback import NEW_YORK


def traded(starts, last):
    """The bars and actions of the sample that the source should return."""
    return clip_to_request(SAMPLE, starts, last)


def assert_same(fetch, expected):
    """The same bars and actions, bit for bit, and no failure."""
    assert fetch.failures == {}
    assert_frame_equal(fetch.bars, expected.bars, check_exact=True)
    assert_frame_equal(fetch.actions, expected.actions, check_exact=True)
    assert fetch.currencies == expected.currencies


def listed(fetch):
    """The actions, for reading."""
    return [(day.strftime("%Y-%m-%d"), kind, value) for _, day, kind, value in fetch.actions.values]


class TestARange:
    def test_brings_every_bar_in_it_as_traded(self, source):
        request = (dict.fromkeys(["IBM", "MSFT"], date(2013, 1, 2)), date(2013, 3, 1))
        assert_same(source.fetch(*request), traded(*request))

    def test_may_be_a_whole_history(self, source):
        request = (
            dict.fromkeys(["AAPL", "FB", "GOOG", "MSFT"], date(2000, 3, 1)),
            date(2013, 3, 1),
        )
        assert_same(source.fetch(*request), traded(*request))

    def test_starts_where_each_ticker_is_to_start(self, source):
        starts = {"AAPL": date(2013, 2, 1), "GOOG": date(2012, 1, 3), "IBM": date(2013, 2, 28)}
        assert_same(source.fetch(starts, date(2013, 3, 1)), traded(starts, date(2013, 3, 1)))

    def test_may_end_before_the_present(self, source):
        starts = {"IBM": date(2013, 1, 10)}
        fetch = source.fetch(starts, date(2013, 1, 31))
        assert_frame_equal(fetch.bars, traded(starts, date(2013, 1, 31)).bars, check_exact=True)

    def test_holds_actions_known_by_now_even_if_it_ends_earlier(self, source):
        fetch = source.fetch({"IBM": date(2013, 1, 10)}, date(2013, 1, 31))
        assert listed(fetch) == [("2013-02-06", "dividend", 0.85)]

    def test_without_tickers_sends_no_request(self, source, yahoo):
        fetch = source.fetch({}, date(2013, 3, 1))
        assert fetch.bars.empty and fetch.actions.empty and fetch.failures == {}
        assert yahoo.log == []

    def test_does_not_depend_on_the_number_of_workers(self, open_yahoo):
        tickers = ["MSFT", "NOSUCH", "AAPL", "IBM", "NONE", "GOOG", "FB"]
        request = (dict.fromkeys(tickers, date(2013, 1, 2)), date(2013, 3, 1))
        one, many = open_yahoo(workers=1).fetch(*request), open_yahoo(workers=7).fetch(*request)
        assert_frame_equal(one.bars, many.bars, check_exact=True)
        assert_frame_equal(one.actions, many.actions, check_exact=True)
        assert list(one.failures.items()) == list(many.failures.items())
        assert (
            list(one.currencies) == list(many.currencies) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
        )

    def test_returns_the_provisional_session(self, source):
        fetch = source.fetch({"IBM": date(2013, 2, 1)}, date(2013, 2, 20))
        assert fetch.provisional == date(2013, 3, 1)


class TestASplit:
    def test_known_at_fetch_time_is_undone(self, source, yahoo):
        # AAPL traded at 89 before its 2:1 split of 2005-02-28; Yahoo shows half of that ever since,
        # as a 32-bit float.
        shown = yahoo.shown("AAPL").set_index("session").loc["2005-02-24", "close"]
        assert shown == float(np.float32(44.465)) != 44.465
        fetch = source.fetch({"AAPL": date(2005, 2, 24)}, date(2005, 3, 1))
        assert fetch.bars["close"].tolist() == [88.93, 88.99, 44.86, 44.5]
        assert fetch.bars["stock_splits"].tolist() == [0.0, 0.0, 2.0, 0.0]

    def test_changes_nothing_of_the_sessions_before_it(self, source, yahoo):
        request = ({"AAPL": date(2005, 2, 1)}, date(2005, 2, 25))
        yahoo.now = datetime(2005, 2, 26, 12, tzinfo=UTC)
        before = source.fetch(*request)
        yahoo.now = datetime(2005, 3, 1, 0, tzinfo=UTC)
        after = source.fetch(*request)
        assert_frame_equal(before.bars, traded(*request).bars, check_exact=True)
        assert_frame_equal(after.bars, before.bars, check_exact=True)
        assert listed(before) == []
        assert listed(after) == [("2005-02-28", "split", 2.0)]

    def test_is_undone_on_the_morning_of_its_open_session_too(self, source, yahoo):
        yahoo.now = datetime(2005, 2, 28, 11, tzinfo=NEW_YORK)
        request = ({"AAPL": date(2005, 2, 22)}, date(2005, 2, 28))
        fetch = source.fetch(*request)
        closed = traded({"AAPL": date(2005, 2, 22)}, date(2005, 2, 25))
        assert_frame_equal(fetch.bars, closed.bars, check_exact=True)
        assert listed(fetch) == [("2005-02-28", "split", 2.0)]

    def test_that_is_still_to_come_is_neither_undone_nor_kept(self, source, yahoo):
        yahoo.always_answers(
            "IBM", faults.announced("splits", "2013-03-05", numerator=2, denominator=1)
        )
        request = ({"IBM": date(2013, 2, 1)}, date(2013, 3, 1))
        assert_same(source.fetch(*request), traded(*request))

    def test_of_several_new_shares_for_several_old_ones_is_a_fraction(self, source, yahoo):
        yahoo.always_answers(
            "IBM", faults.announced("splits", "2013-03-01", numerator=3, denominator=2)
        )
        fetch = source.fetch({"IBM": date(2013, 2, 28)}, date(2013, 3, 1))
        assert fetch.bars["stock_splits"].tolist() == [0.0, 1.5]
        assert fetch.bars["close"].tolist() == [301.245, 202.91]


class TestADividend:
    def test_arrives_on_its_ex_date_as_declared(self, source):
        fetch = source.fetch({"IBM": date(2013, 2, 1)}, date(2013, 2, 28))
        assert listed(fetch) == [("2013-02-06", "dividend", 0.85)]
        paid = fetch.bars.loc[fetch.bars["dividends"] > 0, ["session", "dividends"]]
        assert paid.to_numpy().tolist() == [[pd.Timestamp("2013-02-06"), 0.85]]

    def test_is_in_the_shares_of_its_day(self, source):
        # MSFT paid its first dividend a day after its 2:1 split of 2003-02-18.
        request = ({"MSFT": date(2003, 2, 14)}, date(2003, 2, 20))
        fetch = source.fetch(*request)
        assert_frame_equal(fetch.bars, traded(*request).bars, check_exact=True)
        assert listed(fetch)[:2] == [("2003-02-18", "split", 2.0), ("2003-02-19", "dividend", 0.08)]

    def test_before_the_start_is_left_out(self, source):
        fetch = source.fetch({"IBM": date(2013, 2, 7)}, date(2013, 3, 1))
        assert listed(fetch) == []
        assert not fetch.bars["dividends"].any()

    def test_keeps_its_day_where_the_bar_is_missing(self, source, yahoo):
        days = SAMPLE["session"].between("2013-02-06", "2013-02-07")
        yahoo.list_anew(SAMPLE[~days], actions_of(SAMPLE))
        fetch = source.fetch({"IBM": date(2013, 2, 5)}, date(2013, 2, 11))
        assert listed(fetch) == [("2013-02-06", "dividend", 0.85)]
        assert fetch.bars["session"].dt.day.tolist() == [5, 8, 11]
        assert fetch.bars["dividends"].tolist() == [0.0, 0.85, 0.0]

    def test_is_known_before_the_bar_of_its_day_is(self, source, yahoo):
        yahoo.now = datetime(2013, 2, 6, 11, tzinfo=NEW_YORK)
        fetch = source.fetch({"IBM": date(2013, 2, 4)}, date(2013, 2, 6))
        assert fetch.bars["session"].dt.day.tolist() == [4, 5]
        assert not fetch.bars["dividends"].any()
        assert listed(fetch) == [("2013-02-06", "dividend", 0.85)]

    def test_after_the_last_bar_makes_no_bar(self, source, yahoo):
        yahoo.always_answers("IBM", faults.announced("dividends", "2013-03-02", amount=0.5))
        fetch = source.fetch({"IBM": date(2013, 2, 28)}, date(2013, 3, 1))
        assert fetch.bars["session"].dt.day.tolist() == [28, 1]
        assert listed(fetch) == [("2013-03-02", "dividend", 0.5)]

    def test_that_is_still_to_come_is_left_out(self, source, yahoo):
        yahoo.always_answers("IBM", faults.announced("dividends", "2013-03-05", amount=0.5))
        request = ({"IBM": date(2013, 2, 28)}, date(2013, 3, 1))
        assert_same(source.fetch(*request), traded(*request))

    def test_too_small_for_six_decimals_is_none(self, source, yahoo):
        yahoo.always_answers("IBM", faults.announced("dividends", "2013-02-27", amount=0.0))
        request = ({"IBM": date(2013, 2, 26)}, date(2013, 3, 1))
        assert_same(source.fetch(*request), traded(*request))


class TestABar:
    def test_of_an_open_session_is_left_out(self, source, yahoo):
        request = ({"IBM": date(2013, 2, 25)}, date(2013, 2, 28))
        yahoo.now = datetime(2013, 2, 28, 15, tzinfo=NEW_YORK)
        assert yahoo.shown("IBM")["session"].max() == pd.Timestamp("2013-02-28")
        assert_same(source.fetch(*request), traded(request[0], date(2013, 2, 27)))
        yahoo.now = datetime(2013, 2, 28, 16, 30, tzinfo=NEW_YORK)
        assert_same(source.fetch(*request), traded(*request))

    def test_without_any_price_is_none(self, source, yahoo):
        yahoo.always_answers("GOOG", faults.without_prices("2013-02-26", "2013-03-01"))
        fetch = source.fetch({"GOOG": date(2013, 2, 25)}, date(2013, 3, 1))
        assert fetch.failures == {}
        assert fetch.bars["session"].dt.day.tolist() == [25, 27, 28]

    def test_sent_twice_comes_once(self, source, yahoo):
        yahoo.always_answers("IBM", faults.doubled("2013-02-26", "2013-03-01"))
        request = ({"IBM": date(2013, 2, 25)}, date(2013, 3, 1))
        assert_same(source.fetch(*request), traded(*request))

    @pytest.mark.parametrize("odd", [-1.0, 0.0, float("inf"), None])
    def test_with_an_odd_price_is_left_to_the_checks(self, source, yahoo, odd):
        yahoo.always_answers("IBM", faults.quote("2013-02-27", "low", odd))
        bars = source.fetch({"IBM": date(2013, 2, 26)}, date(2013, 2, 28)).bars
        sound = traded({"IBM": date(2013, 2, 26)}, date(2013, 2, 28)).bars
        shown = float("nan") if odd is None else odd
        assert_frame_equal(bars, sound.assign(low=[sound["low"][0], shown, sound["low"][2]]))


class TestARangeWithoutBars:
    def test_there_is_no_failure(self, source):
        fetch = source.fetch({"IBM": date(2013, 3, 4)}, date(2013, 3, 8))
        assert fetch.failures == {}
        assert fetch.bars.empty
        assert fetch.currencies == {"IBM": "USD"}

    def test_the_action_of_an_open_session_is_found(self, source, yahoo):
        yahoo.now = datetime(2013, 2, 6, 11, tzinfo=NEW_YORK)
        fetch = source.fetch({"IBM": date(2013, 2, 6)}, date(2013, 2, 6))
        assert fetch.bars.empty
        assert listed(fetch) == [("2013-02-06", "dividend", 0.85)]

    def test_an_answer_without_any_bar_still_is_a_failure(self, source, yahoo):
        yahoo.always_answers("IBM", faults.empty)
        fetch = source.fetch({"IBM": date(2013, 3, 4)}, date(2013, 3, 8))
        assert list(fetch.failures) == ["IBM"]


def test_a_range_that_yahoo_has_no_bar_of_is_a_failure(source, yahoo):
    yahoo.list_anew(SAMPLE.query("session < '2013-02-27'"))
    fetch = source.fetch({"IBM": date(2013, 2, 27)}, date(2013, 3, 1))
    assert fetch.failures == {
        "IBM": "Yahoo has no bar from 2013-02-27 to 2013-03-01: late, halted or delisted"
    }
    assert fetch.bars.empty and fetch.actions.empty and fetch.currencies == {}


def test_the_currency_is_returned(source, yahoo):
    yahoo.always_answers("IBM", faults.meta(currency="EUR"))
    fetch = source.fetch(dict.fromkeys(["IBM", "MSFT"], date(2013, 2, 1)), date(2013, 3, 1))
    assert fetch.currencies == {"IBM": "EUR", "MSFT": "USD"}


def test_the_source_is_live():
    source = YahooSource(YahooSettings())
    assert (source.name, source.last_session) == ("yahoo", None)
