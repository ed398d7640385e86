"""Reconciliation: the first session of each request, and answers that do not agree."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from stock_assets.config import Prices
from stock_assets.market import calendar
from stock_assets.market.bars import empty_bars, tidy
from stock_assets.market.reconciliation import (
    Rebasing,
    StoredHistory,
    drop_tickers,
    fetch_starts,
    healing_window,
    histories_to_refetch,
    missing_bars,
    rebased_histories,
    replace_tickers,
    unrelated_histories,
)
from stock_assets.market.sources.base import fetch_from_bars
from stock_assets.market.sources.sample import load_sample

FIRST = date(2004, 1, 2)
PRICES = Prices(
    tickers=["AAPL", "IBM"], first_session=FIRST, overlap_sessions=5, healing_sessions=20
)
NEWEST = date(2005, 3, 8)
SPLIT = date(2005, 2, 28)  # AAPL, two for one


def sample(first=FIRST, last=NEWEST, tickers=("AAPL", "IBM")):
    bars = load_sample()
    wanted = bars["ticker"].isin(tickers) & bars["session"].between(
        pd.Timestamp(first), pd.Timestamp(last)
    )
    return bars[wanted].reset_index(drop=True)


def universe(*tickers):
    return PRICES.model_copy(update={"tickers": list(tickers)})


def histories(last=NEWEST, fetched_from=FIRST):
    return {name: StoredHistory(FIRST, last, fetched_from, "USD") for name in ("AAPL", "IBM")}


def recent(last=NEWEST):
    return sample(healing_window(last, PRICES)[0], last)


def on(bars, ticker, day):
    return bars["ticker"].eq(ticker) & bars["session"].eq(pd.Timestamp(day))


def before(day, count):
    return calendar.previous_session(day, count)


def test_fetch_starts_requests_a_new_ticker_whole():
    starts = fetch_starts([NEWEST], histories(), recent(), universe("AAPL", "NEW"))
    assert starts == {"AAPL": before(NEWEST, 5), "NEW": FIRST}


def test_fetch_starts_requests_a_history_whole_if_it_began_later_before():
    later = histories(fetched_from=date(2004, 6, 1))
    assert fetch_starts([NEWEST], later, recent(), universe("IBM")) == {"IBM": FIRST}


@pytest.mark.parametrize("missed", [1, 2, 10])
def test_fetch_starts_begins_at_the_last_stored_session_less_the_overlap(missed):
    stored = before(NEWEST, missed)
    starts = fetch_starts([NEWEST], histories(last=stored), recent(stored), universe("IBM"))
    assert starts == {"IBM": before(stored, 5)}


def test_fetch_starts_begins_at_an_earlier_session_less_the_overlap():
    earlier = before(NEWEST, 100)
    assert fetch_starts([earlier], histories(), recent(earlier), universe("IBM")) == {
        "IBM": before(earlier, 5)
    }


def test_fetch_starts_begins_at_the_first_session_of_a_range():
    sessions = calendar.sessions(before(NEWEST, 30), NEWEST)
    starts = fetch_starts(sessions, histories(), recent(), universe("IBM"))
    assert starts == {"IBM": before(sessions[0], 5)}


def test_fetch_starts_begins_at_a_recent_gap_and_ignores_an_old_one():
    gap = before(NEWEST, 15)
    holed = recent()[~on(recent(), "IBM", gap)]
    starts = fetch_starts([NEWEST], histories(), holed, universe("AAPL", "IBM"))
    assert starts == {"AAPL": before(NEWEST, 5), "IBM": before(gap, 5)}
    assert before(NEWEST, 21) < healing_window(NEWEST, PRICES)[0]


def test_fetch_starts_never_begins_before_first_session():
    day = calendar.next_session(FIRST, 2)
    assert fetch_starts([day], histories(last=day), recent(day), universe("IBM")) == {"IBM": FIRST}


def test_an_equal_history_is_not_refetched():
    stored = sample(before(NEWEST, 10))
    assert histories_to_refetch(fetch_from_bars(stored), stored, histories()) == []
    assert histories_to_refetch(fetch_from_bars(stored), empty_bars(), {}) == []


def test_a_changed_settled_close_is_refetched_and_a_changed_newest_one_is_not():
    stored = sample(before(NEWEST, 10))
    settled, newest = stored.copy(), stored.copy()
    settled.loc[on(stored, "IBM", before(NEWEST, 1)), "close"] *= 1.001
    newest.loc[on(stored, "IBM", NEWEST), "close"] *= 1.001
    assert histories_to_refetch(fetch_from_bars(settled), stored, histories()) == ["IBM"]
    assert histories_to_refetch(fetch_from_bars(newest), stored, histories()) == []


def test_a_missing_settled_bar_is_refetched_unless_its_ticker_failed():
    stored = sample(before(NEWEST, 10))
    answer = fetch_from_bars(stored[~on(stored, "AAPL", before(NEWEST, 3))])
    assert histories_to_refetch(answer, stored, histories()) == ["AAPL"]
    assert (
        histories_to_refetch(drop_tickers(answer, {"AAPL": "no answer"}), stored, histories()) == []
    )


def test_a_late_dividend_or_volume_is_a_correction():
    stored = sample(before(NEWEST, 10))
    corrected = stored.assign(volume=stored["volume"] + 100, dividends=0.1)
    assert histories_to_refetch(fetch_from_bars(corrected), stored, histories()) == []


def traded_before(bars, ticker, day, factor):
    """The same with a ticker's prices before a day times a factor."""
    earlier = bars["ticker"].eq(ticker) & (bars["session"] < pd.Timestamp(day))
    prices = bars[["open", "high", "low", "close"]]
    return bars.assign(**prices.mask(earlier, prices * factor))


def test_a_split_that_the_source_forgot_re_bases_its_history():
    # Yahoo's prices stay divided, without a split that would undo it.
    forgotten = traded_before(sample(), "AAPL", SPLIT, 0.5)
    found = rebased_histories(fetch_from_bars(forgotten.assign(stock_splits=0.0)), sample())
    assert found == {"AAPL": Rebasing(0.5, before(SPLIT, 1))}


def test_a_split_that_is_shown_but_not_applied_re_bases_its_history():
    day = before(NEWEST, 2)
    early = traded_before(sample(), "IBM", day, 10.0)
    early.loc[on(early, "IBM", day), "stock_splits"] = 10.0
    assert rebased_histories(fetch_from_bars(early), sample()) == {
        "IBM": Rebasing(10.0, before(day, 1))
    }


def test_another_unit_re_bases_its_history():
    pence = traded_before(sample(), "IBM", date.max, 100.0)
    found = rebased_histories(fetch_from_bars(pence), sample())
    assert found == {"IBM": Rebasing(pytest.approx(100.0), NEWEST)}


def test_several_splits_that_the_source_forgot_re_base_a_history():
    earlier, stored = date(2004, 6, 1), sample()
    forgotten = traded_before(traded_before(stored, "AAPL", SPLIT, 0.5), "AAPL", earlier, 0.25)
    assert rebased_histories(fetch_from_bars(forgotten), stored) == {
        "AAPL": Rebasing(0.5, before(SPLIT, 1))
    }


def test_a_split_that_is_applied_to_some_bars_alone_re_bases_a_history():
    block = traded_before(traded_before(sample(), "IBM", SPLIT, 4.0), "IBM", before(SPLIT, 5), 0.25)
    assert rebased_histories(fetch_from_bars(block), sample()) == {
        "IBM": Rebasing(4.0, before(SPLIT, 1))
    }


def test_a_corrected_bar_does_not_hide_a_forgotten_split():
    forgotten = traded_before(sample(), "AAPL", SPLIT, 0.5)
    for day in (before(SPLIT, 30), before(NEWEST, 2)):
        forgotten.loc[on(forgotten, "AAPL", day), "close"] *= 1.1
    assert rebased_histories(fetch_from_bars(forgotten), sample()) == {
        "AAPL": Rebasing(0.5, before(SPLIT, 1))
    }


def test_corrected_bars_are_not_re_based():
    late = sample()
    late.loc[on(late, "IBM", before(NEWEST, 3)), "close"] *= 1.1
    noisy = traded_before(sample(), "AAPL", before(NEWEST, 20), 1.0)
    some = noisy["ticker"].eq("AAPL") & (noisy["session"] < pd.Timestamp(before(NEWEST, 20)))
    noisy.loc[some, "close"] *= 1.0 + 0.1 * (noisy.index[some] % 7)
    assert rebased_histories(fetch_from_bars(late), sample()) == {}
    assert rebased_histories(fetch_from_bars(noisy), sample()) == {}
    assert rebased_histories(fetch_from_bars(sample()), sample()) == {}


def test_bars_that_a_whole_history_lost_are_named():
    stored = sample()
    day = before(NEWEST, 50)
    answer = fetch_from_bars(stored[~on(stored, "IBM", day)])
    (row,) = missing_bars(answer, stored).itertuples()
    assert (row.ticker, row.session.date()) == ("IBM", day)
    assert missing_bars(drop_tickers(answer, {"IBM": "refused"}), stored).empty


def test_unrelated_histories_have_no_stored_session():
    stored = sample(last=before(NEWEST, 10))
    assert unrelated_histories(fetch_from_bars(sample(before(NEWEST, 9))), stored) == [
        "AAPL",
        "IBM",
    ]
    assert unrelated_histories(fetch_from_bars(sample(before(NEWEST, 10))), stored) == []
    assert unrelated_histories(fetch_from_bars(sample(before(NEWEST, 9))), empty_bars()) == []


def test_a_second_answer_takes_the_place_of_the_first():
    first = fetch_from_bars(sample(before(NEWEST, 10)))
    whole = fetch_from_bars(sample(tickers=("IBM",)))
    both = replace_tickers(first, whole, ["IBM"])
    ibm = both.bars["ticker"].eq("IBM")
    assert_frame_equal(both.bars[ibm].reset_index(drop=True), whole.bars)
    expected = sample(before(NEWEST, 10), tickers=("AAPL",))
    assert_frame_equal(both.bars[~ibm].reset_index(drop=True), expected)
    assert both.currencies == {"AAPL": "USD", "IBM": "USD"}
    assert both.failures == {}


def test_a_second_answer_that_failed_leaves_nothing_of_the_first():
    first = fetch_from_bars(sample(before(NEWEST, 10)))
    failed = drop_tickers(fetch_from_bars(sample(tickers=("IBM",))), {"IBM": "no answer"})
    both = replace_tickers(first, failed, ["IBM"])
    assert set(both.bars["ticker"]) == {"AAPL"}
    assert both.failures == {"IBM": "no answer"}


def test_taking_tickers_out_keeps_a_frame_tidy():
    answer = drop_tickers(fetch_from_bars(sample()), {"AAPL": "refused"})
    assert_frame_equal(answer.bars, tidy(answer.bars))
    assert set(answer.actions["ticker"]) == {"IBM"}
    assert answer.currencies == {"IBM": "USD"}
