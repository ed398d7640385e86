"""Jumps, repeats and sessions without volume in a series of bars."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stock_assets.config import Checks
from stock_assets.market.bars import PRICE_COLUMNS
from stock_assets.market.checks import series_findings, unexplained_jumps
from stock_assets.market.sources.sample import load_sample
from stock_assets_tests.market.examples import names, series


def jumps(bars, jump_max=0.4):
    return unexplained_jumps(bars, jump_max).tolist()


def test_the_sample_has_one_jump():
    assert names(series_findings(load_sample(), Checks())) == [
        ("AAPL", "2000-09-29", "jump without a corporate action")
    ]


def test_a_jump_shows_both_closes_and_the_actions():
    found = series_findings(series([100, 40, 41], dividends=[0, 2.5, 0]), Checks())
    assert names(found) == [("IBM", "2000-03-02", "jump without a corporate action")]
    assert found["severity"].tolist() == ["warning"]
    assert found["detail"].tolist() == [
        "previous_close 100.0, close 40.0, stock_splits 0.0, dividends 2.5"
    ]


def test_up_and_down_count_alike():
    assert jumps(series([100, 139, 100, 71.8, 100])) == [False] * 5
    assert jumps(series([100, 141, 100, 71.2, 100])) == [False, True, True, True, True]


def test_a_split_explains_its_jump_and_a_wrong_ratio_does_not():
    closes = [100, 50, 51]
    assert jumps(series(closes)) == [False, True, False]
    assert jumps(series(closes, stock_splits=[0, 2, 0])) == [False, False, False]
    assert jumps(series(closes, stock_splits=[0, 4, 0])) == [False, True, False]
    assert jumps(series(closes, stock_splits=[0, 0, 2])) == [False, True, True]


def test_a_dividend_explains_its_fall_and_a_wrong_one_does_not():
    assert jumps(series([100, 60, 61], dividends=[0, 40, 0])) == [False, False, False]
    assert jumps(series([100, 99, 99], dividends=[0, 80, 0])) == [False, True, False]


def test_the_first_bar_of_a_ticker_has_none_before_it():
    bars = pd.concat([series([1, 1.1], "A"), series([500, 510], "B")], ignore_index=True)
    assert jumps(bars) == [False] * 4
    assert series_findings(bars.set_index(bars.index + 7), Checks()).empty


@settings(max_examples=30)
@given(
    ratio=st.floats(1e-3, 1e3),
    moves=st.lists(st.floats(-0.999, 0.999), min_size=1, max_size=20),
    jump_max=st.floats(0.01, 3.0),
    data=st.data(),
)
def test_a_split_of_any_ratio_is_no_jump_while_the_price_moves_less(ratio, moves, jump_max, data):
    growth = np.exp(np.array([0.0, *moves]) * np.log1p(jump_max))
    split = data.draw(st.integers(1, len(moves)))
    shares = np.where(np.arange(len(growth)) < split, 1.0, ratio)
    ratios = np.where(np.arange(len(growth)) == split, ratio, 0.0)
    closes = 50.0 * growth.cumprod() / shares
    bars = series(closes, stock_splits=ratios)
    assert not unexplained_jumps(bars, jump_max).any()
    assume(abs(math.log(ratio)) > 2.1 * math.log1p(jump_max))
    forgotten = unexplained_jumps(bars.assign(stock_splits=0.0), jump_max)
    assert np.flatnonzero(forgotten).tolist() == [split]


def repeating(*, ticker="IBM", repeats=4):
    """A bar, its repeats, and another bar."""
    count = repeats + 2
    return series([*[10.0] * (count - 1), 11.0], ticker, volume=[*[500.0] * (count - 1), 1.0])


def test_repeats_are_stale_from_the_third_on():
    found = series_findings(repeating(), Checks())
    assert names(found) == [
        ("IBM", "2000-03-06", "stale repeat"),
        ("IBM", "2000-03-07", "stale repeat"),
    ]
    assert found["severity"].tolist() == ["warning"] * 2
    assert found.loc[0, "detail"] == "repeats 3, close 10.0, volume 500.0"


def test_how_many_repeats_are_stale_is_a_setting():
    counts = [len(series_findings(repeating(), Checks(stale_sessions=n))) for n in (1, 2, 3, 4, 5)]
    assert counts == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("column", [*PRICE_COLUMNS, "volume"])
def test_a_bar_that_differs_in_one_number_is_no_repeat(column):
    bars = repeating()
    bars.loc[2, column] += 0.01
    assert series_findings(bars, Checks()).empty


def test_repeats_do_not_run_from_one_ticker_into_the_next():
    alike = [repeating(ticker="A", repeats=2).head(3), repeating(ticker="B", repeats=2)]
    assert series_findings(pd.concat(alike, ignore_index=True), Checks()).empty


def test_a_session_without_volume_is_odd():
    found = series_findings(series([10, 11, 12], volume=[1.0, 0.0, 2.0]), Checks())
    assert names(found) == [("IBM", "2000-03-02", "zero volume")]
    assert found["severity"].tolist() == ["warning"]


@settings(max_examples=20)
@given(
    st.dictionaries(
        st.sampled_from(["A", "B", "C"]),
        st.lists(
            st.tuples(st.sampled_from([10.0, 11.0, 20.0]), st.sampled_from([0.0, 5.0])),
            min_size=1,
            max_size=12,
        ),
        min_size=1,
    )
)
def test_series_findings_do_not_depend_on_other_tickers(rows):
    settings = Checks(stale_sessions=2)
    alone = [
        series([close for close, _ in bars], ticker, volume=[volume for _, volume in bars])
        for ticker, bars in sorted(rows.items())
    ]
    found = series_findings(pd.concat(alone, ignore_index=True), settings)
    apart = pd.concat([series_findings(bars, settings) for bars in alone], ignore_index=True)
    by = ["ticker", "session", "rule"]
    assert_frame_equal(
        found.sort_values(by, ignore_index=True), apart.sort_values(by, ignore_index=True)
    )
