"""Corporate actions take effect with the first bar on or after their ex-date."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stock_assets.market import calendar
from stock_assets.market.bars import empty_bars, tidy
from stock_assets.market.corporate_actions import actions_of, attach, no_actions, tidy_actions
from stock_assets.market.sources.sample import load_sample

DAYS = calendar.sessions(date(2013, 1, 2), date(2013, 1, 31))


def bars(days=DAYS, ticker="AAA"):
    prices = dict.fromkeys(("open", "high", "low", "close"), 10.0)
    plain = {"ticker": ticker, "volume": 100.0, "dividends": 0.0, "stock_splits": 0.0}
    return tidy(pd.DataFrame({"session": days} | prices | plain))


def actions(*rows):
    names = ["ticker", "ex_date", "kind", "value"]
    return tidy_actions(pd.DataFrame(rows, columns=names)) if rows else no_actions()


def in_effect(frame):
    """Session, dividend and split of the bars in which something takes effect."""
    some = frame[(frame["dividends"] > 0) | (frame["stock_splits"] > 0)]
    days = some["session"].dt.date
    return list(zip(days, some["dividends"], some["stock_splits"], strict=True))


def test_attach_restores_the_actions_of_the_sample():
    sample = load_sample()
    facts = actions_of(sample)
    assert facts["kind"].value_counts().to_dict() == {"dividend": 92, "split": 3}
    bare = sample.assign(dividends=0.0, stock_splits=0.0)
    assert_frame_equal(attach(bare, facts), sample, check_exact=True)


def test_an_action_takes_effect_on_its_ex_date():
    found = attach(bars(), actions(("AAA", DAYS[0], "dividend", 0.5), ("AAA", DAYS[4], "split", 2)))
    assert in_effect(found) == [(DAYS[0], 0.5, 0.0), (DAYS[4], 0.0, 2.0)]


def test_an_action_on_a_day_without_a_bar_takes_effect_on_the_next_bar():
    halted = [day for day in DAYS if day not in DAYS[3:6]]
    facts = actions(("AAA", DAYS[3], "split", 2.0), ("AAA", DAYS[5], "dividend", 0.25))
    assert in_effect(attach(bars(halted), facts)) == [(DAYS[6], 0.25, 2.0)]
    assert in_effect(attach(bars(), facts)) == [(DAYS[3], 0.0, 2.0), (DAYS[5], 0.25, 0.0)]


def test_dividends_of_one_bar_are_added_and_splits_multiplied():
    facts = actions(
        ("AAA", DAYS[2], "split", 2.0),
        ("AAA", DAYS[3], "split", 3.0),
        ("AAA", DAYS[2], "dividend", 0.5),
        ("AAA", DAYS[3], "dividend", 0.25),
    )
    halted = [day for day in DAYS if day not in DAYS[2:4]]
    assert in_effect(attach(bars(halted), facts)) == [(DAYS[4], 0.75, 6.0)]


@pytest.mark.parametrize("day", [DAYS[0] - (DAYS[1] - DAYS[0]), DAYS[-1] + (DAYS[1] - DAYS[0])])
def test_actions_before_the_first_bar_or_after_the_last_have_no_effect(day):
    assert in_effect(attach(bars(), actions(("AAA", day, "split", 2.0)))) == []


def test_actions_of_another_ticker_have_no_effect():
    both = tidy(pd.concat([bars(), bars(ticker="BBB")]))
    found = attach(both, actions(("BBB", DAYS[3], "split", 2.0)))
    assert in_effect(found[found["ticker"] == "AAA"]) == []
    assert in_effect(found[found["ticker"] == "BBB"]) == [(DAYS[3], 0.0, 2.0)]


def test_empty_frames_stay_empty():
    assert_frame_equal(attach(bars(), no_actions()), bars())
    assert_frame_equal(attach(empty_bars(), actions(("A", DAYS[0], "split", 2.0))), empty_bars())
    assert_frame_equal(actions_of(empty_bars()), no_actions())


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(st.sampled_from(DAYS[1:]), st.floats(0.01, 5.0)),
    st.dictionaries(st.sampled_from(DAYS[1:]), st.sampled_from([2.0, 3.0, 0.1, 1.5])),
)
def test_actions_of_returns_the_attached_actions(dividends, splits):
    rows = [("AAA", day, "dividend", value) for day, value in dividends.items()]
    rows += [("AAA", day, "split", value) for day, value in splits.items()]
    facts = actions(*rows)
    assert_frame_equal(actions_of(attach(bars(), facts)), facts, check_exact=True)
