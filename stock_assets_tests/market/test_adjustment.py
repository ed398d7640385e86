"""The laws of adjustment, on generated histories and on real ones."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal

from stock_assets.core.errors import StockAssetsError
from stock_assets.market import calendar
from stock_assets.market.adjustment import (
    AdjustmentFactors,
    adjust,
    adjustment_factors,
    price_factor,
    rebase,
)
from stock_assets.market.bars import PRICE_COLUMNS, empty_bars, tidy
from stock_assets.market.sources.sample import load_sample

SESSIONS = calendar.sessions(date(2013, 1, 2), date(2013, 3, 1))
END = SESSIONS[-1]
SCALED = [*PRICE_COLUMNS, "volume", "dividends"]

law = settings(max_examples=15, deadline=None)
bases = st.sampled_from(["raw", "split_adjusted", "adjusted"])
positions = st.integers(0, len(SESSIONS) - 1)
ratios = st.sampled_from([0.0] * 12 + [2.0, 3.0, 1.5, 10.0, 0.1])
payouts = st.sampled_from([0.0] * 12 + [0.001, 0.01, 0.3])


@st.composite
def histories(draw):
    """Bars as traded of two tickers that list on different days, with any events."""
    return tidy(pd.concat([history(draw, "AAA"), history(draw, "BBB")]))


def history(draw, ticker):
    count = draw(st.integers(1, len(SESSIONS)))
    drawn = [
        np.array(draw(st.lists(values, min_size=count, max_size=count)))
        for values in (st.floats(1.0, 1000.0), st.integers(1, 10**9), ratios, payouts)
    ]
    close, volume, splits, payout = drawn
    before = np.concatenate([close[:1], close[:-1]]) / np.where(splits > 0, splits, 1.0)
    return pd.DataFrame(
        {
            "ticker": ticker,
            "session": SESSIONS[-count:],
            "open": close * 1.01,
            "high": close * 1.02,
            "low": close * 0.99,
            "close": close,
            "volume": volume,
            "dividends": payout * before,
            "stock_splits": splits,
        }
    )


def assert_same_bits(one, other):
    assert_frame_equal(one, other, check_exact=True)


def growth(bars):
    """Each close over the one before it, per ticker; NaN at a first bar."""
    return bars["close"] / bars.groupby("ticker")["close"].shift()


def ratio_of(bars):
    return bars["stock_splits"].replace(0.0, 1.0)


@law
@given(histories(), positions)
def test_raw_prices_are_the_prices_as_traded(bars, position):
    as_of = SESSIONS[position]
    known = bars[bars["session"] <= pd.Timestamp(as_of)].reset_index(drop=True)
    assert_same_bits(adjust(bars, "raw", as_of), known)
    assert_same_bits(
        rebase(bars, "raw", adjustment_factors(known, "raw"))[list(bars.columns)], bars
    )


@law
@given(histories())
def test_across_a_split_the_adjusted_return_is_the_return_of_a_holder(bars):
    adjusted = adjust(bars, "split_adjusted", END)
    assert_allclose(growth(adjusted), growth(bars) * ratio_of(bars), rtol=1e-12)


@law
@given(histories())
def test_across_a_dividend_the_adjusted_return_is_made_larger_by_what_was_paid(bars):
    adjusted = adjust(bars, "adjusted", END)
    before = bars.groupby("ticker")["close"].shift() / ratio_of(bars)
    holder = growth(bars) * ratio_of(bars) / (1 - bars["dividends"] / before)
    assert_allclose(growth(adjusted), holder, rtol=1e-12)


@law
@given(histories())
def test_adjusted_closes_are_yahoos(bars):
    """Adj Close(t) = Close(t) times 1 - D / Close before, over later ex-dates; split-adjusted."""
    shown = adjust(bars, "split_adjusted", END)
    adjusted = adjust(bars, "adjusted", END)
    for ticker, rows in shown.groupby("ticker"):
        close, paid = rows["close"].to_numpy(), rows["dividends"].to_numpy()
        expected = [
            close[t] * np.prod([1 - paid[e] / close[e - 1] for e in range(t + 1, len(close))])
            for t in range(len(close))
        ]
        assert_allclose(adjusted.loc[adjusted["ticker"] == ticker, "close"], expected, rtol=1e-11)


@law
@given(histories(), bases, positions)
def test_the_newest_bar_of_each_ticker_is_as_traded_to_the_bit(bars, basis, position):
    as_of = SESSIONS[position]
    known = bars[bars["session"] <= pd.Timestamp(as_of)]
    newest = ~known["ticker"].duplicated(keep="last").to_numpy()
    assert_same_bits(
        adjust(bars, basis, as_of)[newest].reset_index(drop=True),
        known[newest].reset_index(drop=True),
    )


@law
@given(histories(), bases, positions, positions)
def test_two_vantage_points_differ_by_one_factor_per_ticker(bars, basis, one, other):
    early, late = SESSIONS[min(one, other)], SESSIONS[max(one, other)]
    seen_early, seen_late = adjust(bars, basis, early), adjust(bars, basis, late)
    seen_late = seen_late[seen_late["session"] <= pd.Timestamp(early)].reset_index(drop=True)
    factor = seen_late["close"] / seen_early["close"]
    first = factor.groupby(seen_early["ticker"]).transform("first")
    assert_allclose(factor, first, rtol=1e-12)


@law
@given(histories(), bases, positions, st.floats(0.5, 2.0))
def test_later_bars_change_no_bit_of_earlier_ones(bars, basis, position, change):
    as_of = SESSIONS[position]
    later = bars["session"] > pd.Timestamp(as_of)
    other = bars.copy()
    other.loc[later, list(PRICE_COLUMNS)] *= change
    other.loc[later, "stock_splits"] = 7.0
    assert_same_bits(adjust(other, basis, as_of), adjust(bars, basis, as_of))
    known = bars[~later].reset_index(drop=True)
    rebased, fewer = (
        rebase(some, basis, adjustment_factors(known, basis)) for some in (bars, known)
    )
    assert_same_bits(rebased[~later].reset_index(drop=True), fewer)
    assert_same_bits(fewer[list(bars.columns)], adjust(bars, basis, as_of))


@law
@given(histories(), bases)
def test_the_adjusted_close_is_the_same_on_every_basis(bars, basis):
    rebased = rebase(bars, basis, adjustment_factors(bars, basis))
    adjusted = adjust(bars, "adjusted", END)["close"].rename("adjusted_close")
    pd.testing.assert_series_equal(rebased["adjusted_close"], adjusted, check_exact=True)


@law
@given(histories(), bases)
def test_tickers_are_independent(bars, basis):
    alone = [adjust(bars[bars["ticker"] == name], basis, END) for name in ("AAA", "BBB")]
    assert_same_bits(pd.concat(alone, ignore_index=True), adjust(bars, basis, END))


@law
@given(histories(), bases, positions)
def test_bars_after_the_as_of_session_continue_the_series(bars, basis, position):
    known = bars[bars["session"] <= pd.Timestamp(SESSIONS[position])]
    continued = rebase(bars, basis, adjustment_factors(known, basis))
    assert_allclose(growth(continued), growth(adjust(bars, basis, END)), rtol=1e-12)


@law
@given(histories(), bases)
def test_a_ticker_without_factors_has_factor_one(bars, basis):
    ones = dict.fromkeys(("AAA", "BBB"), AdjustmentFactors(1.0, 1.0, 1.0))
    assert_same_bits(rebase(bars, basis, {}), rebase(bars, basis, ones))


@law
@given(histories())
def test_money_traded_and_dividend_yield_survive_a_split(bars):
    adjusted = adjust(bars, "split_adjusted", END)
    assert_allclose(
        adjusted["close"] * adjusted["volume"], bars["close"] * bars["volume"], rtol=1e-12
    )
    assert_allclose(
        adjusted["dividends"] / adjusted["close"], bars["dividends"] / bars["close"], rtol=1e-12
    )


@law
@given(histories())
def test_volume_and_dividends_follow_splits_alone(bars):
    fully, splits_alone = adjust(bars, "adjusted", END), adjust(bars, "split_adjusted", END)
    columns = ["volume", "dividends", "stock_splits"]
    assert_same_bits(fully[columns], splits_alone[columns])
    assert_same_bits(fully[["stock_splits"]], bars[["stock_splits"]])


@law
@given(histories(), bases)
def test_a_factor_is_given_for_every_row_on_its_index(bars, basis):
    bars = bars.set_index(bars.index + 100)
    factor = price_factor(bars, basis)
    assert factor.index.equals(bars.index)
    assert (factor > 0).all()


@pytest.mark.parametrize("basis", ["raw", "split_adjusted", "adjusted"])
def test_no_bars_stay_no_bars(basis):
    assert_same_bits(adjust(empty_bars(), basis, END), empty_bars())
    assert adjustment_factors(empty_bars(), basis) == {}


def test_adjusting_leaves_its_argument_alone():
    bars = load_sample()
    before = bars.copy()
    adjust(bars, "adjusted", date(2005, 3, 1))
    assert_same_bits(bars, before)


@pytest.mark.parametrize(
    ("ticker", "ex_date", "basis", "expected"),
    [
        ("AAPL", "2005-02-28", "raw", -0.496),
        ("AAPL", "2005-02-28", "split_adjusted", 0.008),
        ("MSFT", "2004-11-15", "split_adjusted", -0.086),
        ("MSFT", "2004-11-15", "adjusted", 0.019),
    ],
)
def test_real_returns_on_ex_dates(ticker, ex_date, basis, expected):
    bars = load_sample()
    adjusted = adjust(bars[bars["ticker"] == ticker], basis, date(2013, 3, 1))
    returns = (growth(adjusted) - 1).set_axis(adjusted["session"])
    assert returns[ex_date] == pytest.approx(expected, abs=5e-4)


def test_yahoos_published_example():
    """Its help page works Microsoft's split and dividend of February 2003 out by hand."""
    bars = load_sample()
    microsoft = adjust(bars[bars["ticker"] == "MSFT"], "adjusted", date(2003, 2, 19))
    closes = microsoft.set_index("session")["close"]["2003-02-13":]
    assert closes.round(2).tolist() == [23.42, 24.07, 24.88, 24.53]


def test_a_later_split_is_not_seen_before_its_day():
    bars = load_sample()
    apple = bars[bars["ticker"] == "AAPL"].set_index("session", drop=False)
    columns, friday = [*PRICE_COLUMNS, "volume"], "2005-02-25"
    traded = apple.loc[friday, columns].to_numpy()

    def seen(as_of):
        adjusted = adjust(apple, "split_adjusted", as_of).set_index("session")
        return adjusted.loc[friday, columns].to_numpy()

    assert (seen(date(2005, 2, 25)) == traded).all()
    assert (seen(date(2005, 2, 28)) == traded * [0.5, 0.5, 0.5, 0.5, 2.0]).all()


def test_a_dividend_as_large_as_the_price_is_an_error():
    bars = load_sample().head(3).assign(dividends=[0.0, 500.0, 0.0])
    with pytest.raises(StockAssetsError, match=r"AAPL 2000-03-02: the dividend of 500\.0"):
        price_factor(bars, "adjusted")
    assert price_factor(bars, "split_adjusted").tolist() == [1.0, 1.0, 1.0]
