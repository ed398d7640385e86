"""Formulas agree with their definitions and are neutral for a suspended ticker."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stock_assets.features import formulas
from stock_assets.features.indicators import FEATURES
from stock_assets_tests.features.examples import columns_of, property_test, same_bits, walk

numbers = hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e6, 1e6))
windows = st.integers(1, 12)


@property_test
@given(numbers, windows)
def test_rolling_statistics_agree_with_numpy(values, window):
    for row in range(window - 1, len(values)):
        seen = values[row - window + 1 : row + 1]
        assert formulas.rolling_sum(values, window)[row] == pytest.approx(seen.sum(), abs=1e-6)
        assert formulas.rolling_mean(values, window)[row] == pytest.approx(seen.mean(), abs=1e-6)
        assert formulas.rolling_std(values, window)[row] == pytest.approx(seen.std(), abs=1e-6)


@property_test
@given(numbers, windows)
def test_rolling_statistics_need_a_complete_window(values, window):
    for statistic in (formulas.rolling_sum, formulas.rolling_mean, formulas.rolling_std):
        found = statistic(values, window)
        assert len(found) == len(values)
        assert np.isnan(found[: window - 1]).all()
        assert np.isfinite(found[window - 1 :]).all()


@property_test
@given(numbers, windows, st.data())
def test_rolling_statistics_do_not_depend_on_earlier_rows(values, window, data):
    start = data.draw(st.integers(0, len(values)))
    tail = formulas.rolling_std(values[start:], window)[window - 1 :]
    assert same_bits(formulas.rolling_std(values, window)[start + window - 1 :], tail)


@property_test
@given(numbers, st.integers(0, 50))
def test_lag_shifts_values(values, sessions):
    late = formulas.lag(values, sessions)
    assert len(late) == len(values)
    assert np.isnan(late[:sessions]).all()
    assert same_bits(late[sessions:], values[: max(len(values) - sessions, 0)])


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("CCI", 0.0),
        ("Stochastic_K", 50.0),
        ("Stochastic_D", 50.0),
        ("Williams_R", -50.0),
        ("MFI", 50.0),
        ("Chaikin_Money_Flow", 0.0),
        ("OBV", 0.0),
        ("Log_Return", 0.0),
        ("Volatility_20", 0.0),
        ("Relative_Volume_20", 0.0),
    ],
)
def test_suspended_ticker_has_neutral_values(name, neutral):
    suspended = walk(300, seed=1, still=slice(20, 300))
    assert FEATURES[name].compute(suspended)[-1] == neutral


def test_vwap_without_volume_is_the_mean():
    bars = walk(60, seed=2)
    bars["volume"][30:] = 0.0
    typical = formulas.typical_price(bars["high"], bars["low"], bars["close"])
    assert FEATURES["VWAP"].compute(bars)[-1] == pytest.approx(typical[-14:].mean())


def test_on_balance_volume_is_the_change_of_the_running_total(sample_bars: pd.DataFrame):
    bars = columns_of(sample_bars, "IBM")
    running = talib.OBV(bars["close"], bars["volume"])
    np.testing.assert_allclose(
        FEATURES["OBV"].compute(bars)[200:], running[200:] - running[:-200], rtol=1e-12
    )


def test_returns_use_the_named_prices():
    bars = walk(30, seed=3)
    expected = {
        "Log_Return": np.log(bars["close"][25] / bars["close"][24]),
        "Log_Return_5": np.log(bars["close"][25] / bars["close"][20]),
        "Log_Return_20": np.log(bars["close"][25] / bars["close"][5]),
        "Overnight_Return": np.log(bars["open"][25] / bars["close"][24]),
        "Intraday_Return": np.log(bars["close"][25] / bars["open"][25]),
        "High_Low_Range": np.log(bars["high"][25] / bars["low"][25]),
    }
    found = {name: FEATURES[name].compute(bars)[25] for name in expected}
    assert found == pytest.approx(expected)
    assert found["Overnight_Return"] + found["Intraday_Return"] == pytest.approx(
        found["Log_Return"]
    )


def test_volatility_and_relative_volume_cover_twenty_sessions():
    bars = walk(30, seed=4)
    returns = np.diff(np.log(bars["close"]))
    assert FEATURES["Volatility_20"].compute(bars)[25] == pytest.approx(returns[5:25].std())
    assert FEATURES["Relative_Volume_20"].compute(bars)[25] == pytest.approx(
        np.log(bars["volume"][25] / bars["volume"][6:26].mean())
    )
