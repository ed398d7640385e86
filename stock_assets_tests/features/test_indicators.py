"""Properties of all declared features, and agreement of the indicators with the library `ta`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
import ta
import ta.momentum
import ta.trend
import ta.volatility
import ta.volume
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stock_assets.config import load_params
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.feature import INPUT_COLUMNS
from stock_assets.features.indicators import FEATURES, find_feature, select
from stock_assets_tests.custom_code import documented_module
from stock_assets_tests.features.examples import (
    columns_of,
    part,
    property_test,
    random_bars,
    same_bits,
    walk,
)
from stock_assets_tests.prepared import ROOT

CUSTOM = [find_feature(name) for name in load_params(ROOT / "params.yaml").features.custom]
EVERY = FEATURES | {
    feature.name: feature for feature in (*CUSTOM, documented_module("our_features").mean_gap)
}
"""All built-in features, the custom ones of this repository, and the documented one."""

EARLIER = """
    Open High Low Close Volume Dividends Stock_Splits
    EMA_50 EMA_200 SMA_50 MACD ADX DI_Positive DI_Negative PSAR CCI
    RSI Stochastic_K Stochastic_D Williams_R Price_Rate_Of_Change
    BB_High BB_Low ATR Donchian_High Donchian_Low Keltner_High Keltner_Low
    OBV MFI VWAP Volume_SMA Chaikin_Money_Flow Force_Index
    Log_Return
"""


def compute_all(bars: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return {name: feature.compute(bars) for name, feature in EVERY.items()}


def test_features_of_the_earlier_system_come_first():
    assert list(FEATURES)[:35] == EARLIER.split()


def test_select_returns_declared_order():
    chosen = select(["returns", "raw", "raw"])
    assert chosen == select(["raw", "returns"])
    assert chosen[0] == "Open"
    assert chosen[-1] == "Relative_Volume_20"


def test_select_of_an_unknown_group_lists_the_groups():
    with pytest.raises(StockAssetsError, match="no feature group astrology") as caught:
        select(["astrology", "raw"])
    assert "momentum" in caught.value.remedy


@property_test
@given(random_bars(), st.data())
def test_features_do_not_depend_on_whether_later_bars_exist(bars, data):
    cut = data.draw(st.integers(0, len(bars["close"])), label="rows kept")
    known = compute_all(part(bars, slice(cut)))
    for name, values in compute_all(bars).items():
        assert same_bits(values[:cut], known[name]), name


@property_test
@given(random_bars(), st.integers(0, 2**32 - 1), st.data())
def test_features_do_not_depend_on_later_bars(bars, seed, data):
    cut = data.draw(st.integers(0, len(bars["close"])), label="rows kept")
    other = walk(len(bars["close"]), seed)
    for name in INPUT_COLUMNS:
        other[name][:cut] = bars[name][:cut]
    changed = compute_all(other)
    for name, values in compute_all(bars).items():
        assert same_bits(values[:cut], changed[name][:cut]), name


@property_test
@given(random_bars())
def test_exactly_the_warm_up_is_missing(bars):
    for name, values in compute_all(bars).items():
        missing = np.arange(len(values)) < EVERY[name].warm_up
        assert values.dtype == np.float64
        np.testing.assert_array_equal(np.isnan(values), missing, err_msg=name)
        assert np.isfinite(values[~missing]).all(), name


@property_test
@given(random_bars(least=201), st.data())
def test_windowed_features_do_not_depend_on_earlier_bars(bars, data):
    row = data.draw(st.integers(200, len(bars["close"]) - 1), label="row")
    for name, feature in EVERY.items():
        if not feature.recursive:
            own_rows = part(bars, slice(row - feature.warm_up, row + 1))
            assert same_bits(
                feature.compute(own_rows)[-1:], feature.compute(bars)[row : row + 1]
            ), name


@pytest.mark.parametrize("name", [n for n, f in EVERY.items() if f.recursive])
def test_recursive_features_converge(name, sample_bars: pd.DataFrame):
    bars = columns_of(sample_bars, "IBM")
    whole = EVERY[name].compute(bars)
    shorter = EVERY[name].compute(part(bars, slice(1000, None)))
    assert not same_bits(whole[1000:], shorter)
    assert shorter[-1] == pytest.approx(whole[-1], rel=1e-8)


@property_test
@given(random_bars(), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_scale_free_features_ignore_units(bars, price, volume):
    units = dict.fromkeys(("open", "high", "low", "close", "dividends"), price)
    units["volume"] = volume
    scaled = {name: column * units.get(name, 1.0) for name, column in bars.items()}
    for name, feature in EVERY.items():
        if feature.scale_free:
            np.testing.assert_allclose(
                feature.compute(scaled), feature.compute(bars), rtol=1e-9, atol=1e-9, err_msg=name
            )


@pytest.mark.parametrize(
    "name", [n for n, f in EVERY.items() if not f.scale_free and n != "Dividends"]
)
def test_other_features_depend_on_units(name):
    bars = walk(250, seed=5)
    doubled = {column: 2.0 * values for column, values in bars.items()}
    assert EVERY[name].compute(doubled)[-1] != EVERY[name].compute(bars)[-1]


Prices = pd.DataFrame
REFERENCE: dict[str, Callable[[Prices], pd.Series]] = {
    "EMA_50": lambda b: ta.trend.ema_indicator(b.close, 50),
    "SMA_50": lambda b: ta.trend.sma_indicator(b.close, 50),
    "MACD": lambda b: ta.trend.macd(b.close),
    "ADX": lambda b: ta.trend.adx(b.high, b.low, b.close),
    "DI_Positive": lambda b: ta.trend.adx_pos(b.high, b.low, b.close),
    "DI_Negative": lambda b: ta.trend.adx_neg(b.high, b.low, b.close),
    "CCI": lambda b: ta.trend.cci(b.high, b.low, b.close),
    "RSI": lambda b: ta.momentum.rsi(b.close),
    "Stochastic_K": lambda b: ta.momentum.stoch(b.high, b.low, b.close),
    "Stochastic_D": lambda b: ta.momentum.stoch_signal(b.high, b.low, b.close),
    "Williams_R": lambda b: ta.momentum.williams_r(b.high, b.low, b.close),
    "Price_Rate_Of_Change": lambda b: ta.momentum.roc(b.close),
    "BB_High": lambda b: ta.volatility.bollinger_hband(b.close, 15),
    "BB_Low": lambda b: ta.volatility.bollinger_lband(b.close, 15),
    "ATR": lambda b: ta.volatility.average_true_range(b.high, b.low, b.close, 14),
    "Donchian_High": lambda b: ta.volatility.donchian_channel_hband(b.high, b.low, b.close),
    "Donchian_Low": lambda b: ta.volatility.donchian_channel_lband(b.high, b.low, b.close),
    "Keltner_High": lambda b: ta.volatility.KeltnerChannel(
        b.high, b.low, b.close
    ).keltner_channel_hband(),
    "Keltner_Low": lambda b: ta.volatility.KeltnerChannel(
        b.high, b.low, b.close
    ).keltner_channel_lband(),
    "MFI": lambda b: ta.volume.money_flow_index(b.high, b.low, b.close, b.volume),
    "VWAP": lambda b: ta.volume.volume_weighted_average_price(b.high, b.low, b.close, b.volume),
    "Volume_SMA": lambda b: ta.trend.sma_indicator(b.volume, 20),
    "Chaikin_Money_Flow": lambda b: ta.volume.chaikin_money_flow(b.high, b.low, b.close, b.volume),
    "Force_Index": lambda b: ta.volume.force_index(b.close, b.volume),
    "Log_Return": lambda b: np.log1p(ta.others.daily_return(b.close) / 100),
}


@pytest.fixture(scope="module")
def ibm(sample_bars: pd.DataFrame) -> pd.DataFrame:
    """Two thousand real bars."""
    return sample_bars[sample_bars["ticker"] == "IBM"].iloc[-2000:].reset_index(drop=True)


@pytest.mark.parametrize("name", REFERENCE)
def test_indicators_agree_with_ta(name, ibm: pd.DataFrame):
    """Compare up to rounding; recursive indicators after 800 rows, because `ta` starts differently.

    The last row is left out: the ADX family of `ta` has a zero there.
    """
    feature = FEATURES[name]
    start = feature.warm_up + (800 if feature.recursive else 0)
    expected = REFERENCE[name](ibm).to_numpy()[start:-1]
    found = feature.compute(columns_of(ibm, "IBM"))[start:-1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).mean())


def test_ema_200_converges_to_ta(ibm: pd.DataFrame):
    """TA-Lib starts from the mean of the first window, `ta` from the first price."""
    expected = ta.trend.ema_indicator(ibm.close, 200).to_numpy()[199:]
    gap = np.abs(FEATURES["EMA_200"].compute(columns_of(ibm, "IBM"))[199:] - expected)
    np.testing.assert_allclose(gap, gap[0] * (199 / 201) ** np.arange(len(gap)), atol=1e-9)


def test_psar_mostly_agrees_with_ta(ibm: pd.DataFrame):
    """`ta` limits the stop by the low (high) of two sessions ago; Wilder and TA-Lib use the farther
    of the last two. They agree again after each reversal."""
    found = FEATURES["PSAR"].compute(columns_of(ibm, "IBM"))[100:]
    expected = ta.trend.PSARIndicator(ibm.high, ibm.low, ibm.close).psar().to_numpy()[100:]
    assert np.isclose(found, expected, rtol=1e-9).mean() > 0.9
    assert np.abs(found / expected - 1.0).mean() < 0.005
