"""Panel: every value at its session and ticker, gaps preserved, nothing from later sessions."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.features.indicators import FEATURES, select
from stock_assets.features.labels import session_labels
from stock_assets.features.panel import Panel, build_panel, to_frame
from stock_assets_tests.features.examples import (
    FIRST,
    as_frame,
    as_traded,
    columns_of,
    property_test,
    same_bits,
    session_dates,
    walk,
)

TICKERS = ("AAA", "BBB", "CCC")


def two_tickers(rows: int = 60) -> pd.DataFrame:
    return as_frame({"AAA": walk(rows, seed=1), "BBB": walk(rows, seed=2)})


def panel_of(bars: pd.DataFrame, features=("Close", "RSI"), rows: int = 60) -> Panel:
    return build_panel(as_traded(bars), TICKERS, features, FIRST, session_dates(rows)[-1].date())


def assert_same(left: Panel, right: Panel) -> None:
    assert left.sessions.equals(right.sessions)
    assert same_bits(left.values, right.values)
    assert same_bits(left.close, right.close)
    assert np.array_equal(left.valid, right.valid)


def test_panel_holds_features_at_their_session_and_ticker(sample_bars: pd.DataFrame):
    names = tuple(FEATURES)
    based = as_traded(sample_bars)
    panel = build_panel(based, ["MSFT", "FB"], names, date(2012, 1, 3), date(2013, 3, 1))
    own = based[based["session"] >= "2012-01-03"]
    assert panel.values.shape == (len(panel.sessions), 2, len(names))
    assert panel.values.dtype == np.float32
    msft = columns_of(own, "MSFT")
    adjusted = own.loc[own["ticker"] == "MSFT", "adjusted_close"]
    np.testing.assert_array_equal(panel.close[:, 0], adjusted)
    for column, name in enumerate(names):
        expected = FEATURES[name].compute(msft)[200:].astype(np.float32)
        np.testing.assert_array_equal(panel.values[200:, 0, column], expected)
    assert panel.valid[:, 0].tolist() == [row >= 200 for row in range(len(panel.sessions))]


def test_late_listing_is_missing_before_it_and_warms_up_after(sample_bars: pd.DataFrame):
    panel = build_panel(as_traded(sample_bars), ["FB"], ["RSI"], date(2012, 1, 3), date(2013, 3, 1))
    listed = panel.sessions.get_loc(pd.Timestamp("2012-05-18"))
    assert np.isnan(panel.close[:listed, 0]).all()
    assert np.isfinite(panel.close[listed:, 0]).all()
    assert np.flatnonzero(panel.valid[:, 0])[0] == listed + FEATURES["RSI"].warm_up


def test_ticker_without_bars_is_never_valid():
    panel = panel_of(two_tickers())
    assert panel.valid.any(axis=0).tolist() == [True, True, False]
    assert np.isnan(panel.close[:, 2]).all()
    assert np.isnan(panel.values[:, 2]).all()


def test_panel_without_bars_has_no_valid_row():
    assert not panel_of(two_tickers().iloc[:0]).valid.any()


def test_missing_session_is_a_gap_and_indicators_continue():
    bars = two_tickers()
    gone = bars[(bars["ticker"] != "AAA") | (bars["session"] != session_dates(31)[-1])]
    panel = panel_of(gone)
    assert len(panel.sessions) == 60
    assert not panel.valid[30, 0]
    assert np.isnan(panel.values[30, 0]).all()
    assert np.isnan(panel.close[30, 0])
    own_bars = FEATURES["RSI"].compute(columns_of(gone, "AAA"))
    np.testing.assert_array_equal(panel.values[31:, 0, 1], own_bars[30:].astype(np.float32))
    assert same_bits(panel.values[:, 1], panel_of(bars).values[:, 1])


@pytest.mark.parametrize("column", ["open", "close", "volume"])
def test_incomplete_bar_counts_as_no_bar(column):
    bars = two_tickers()
    incomplete = bars.copy()
    incomplete.loc[30, column] = np.nan
    assert_same(panel_of(incomplete), panel_of(bars.drop(index=30)))


def test_row_is_valid_only_if_every_feature_is():
    panel = panel_of(two_tickers(), features=("Close", "RSI", "SMA_50"))
    assert panel.valid[:, 0].tolist() == [row >= 49 for row in range(60)]
    assert np.isnan(panel.values[~panel.valid]).all()
    assert np.isfinite(panel.values[panel.valid]).all()


def test_axes_follow_the_requested_order():
    bars, last = two_tickers(), session_dates(60)[-1].date()
    one = build_panel(as_traded(bars), ["AAA", "BBB"], ["Close", "RSI"], FIRST, last)
    other = build_panel(as_traded(bars), ["BBB", "AAA"], ["RSI", "Close"], FIRST, last)
    assert same_bits(one.values, other.values[:, ::-1, ::-1].copy())
    assert (other.tickers, other.features) == (("BBB", "AAA"), ("RSI", "Close"))


@property_test
@given(st.integers(1, 260), st.integers(0, 2**32 - 1))
def test_panel_does_not_depend_on_later_bars(rows, seed):
    features = tuple(name for name in FEATURES if FEATURES[name].group != "alpha158")
    bars = as_frame({"AAA": walk(260, seed=1), "BBB": walk(260, seed=2)})
    other = as_frame({"AAA": walk(260, seed), "BBB": walk(260, seed + 1)})
    later = bars["session"] > session_dates(rows)[-1]
    mixed = bars.where(~later, other)
    known = panel_of(bars[~later], features, rows)
    assert_same(known, panel_of(mixed, features, rows))
    whole = panel_of(mixed, features, 260)
    assert same_bits(whole.values[:rows], known.values)
    assert same_bits(whole.close[:rows], known.close)
    assert np.array_equal(whole.valid[:rows], known.valid)


def test_panel_ignores_bars_before_its_span():
    bars, sessions = two_tickers(), session_dates(60)
    start, end = sessions[20].date(), sessions[-1].date()
    inside = bars[bars["session"] >= sessions[20]]
    assert_same(
        build_panel(as_traded(bars), TICKERS, ["RSI"], start, end),
        build_panel(as_traded(inside), TICKERS, ["RSI"], start, end),
    )


def test_bar_on_a_holiday_is_an_error():
    bars = two_tickers()
    bars.loc[10, "session"] = pd.Timestamp("2010-01-18")
    with pytest.raises(StockAssetsError, match="AAA has a bar on 2010-01-18, which is not a"):
        panel_of(bars)


def test_undeclared_feature_is_an_error():
    with pytest.raises(StockAssetsError, match="no feature Moon_Phase"):
        panel_of(two_tickers(), features=("Close", "Moon_Phase"))


def test_long_frame_agrees_with_the_panel():
    panel = panel_of(two_tickers(), features=select(["returns"]))
    labels = session_labels(panel.close, "log_return")
    frame = to_frame(panel, labels)
    assert list(frame.columns) == ["session", "ticker", *panel.features, "target", "valid"]
    assert len(frame) == 60 * 3
    row = frame[(frame["session"] == panel.sessions[40]) & (frame["ticker"] == "BBB")].iloc[0]
    np.testing.assert_array_equal(row[list(panel.features)].astype(np.float32), panel.values[40, 1])
    assert row["target"] == labels[40, 1]
    assert row["valid"]
    assert frame.loc[frame["valid"], list(panel.features)].notna().all(axis=None)
    assert not frame.loc[frame["ticker"] == "CCC", "valid"].any()
