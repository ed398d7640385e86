"""What holds for every declared feature, and how the indicators compare with the library `ta`."""

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

from stock_assets.core.errors import StockAssetsError
from stock_assets.features.feature import INPUT_COLUMNS
from stock_assets.features.indicators import FEATURES, select
from stock_assets_tests.features.examples import columns_of, law, part, same_bits, sound_bars, walk

EARLIER = """
    Open High Low Close Volume Dividends Stock_Splits
    EMA_50 EMA_200 SMA_50 MACD ADX DI_Positive DI_Negative PSAR CCI
    RSI Stochastic_K Stochastic_D Williams_R Price_Rate_Of_Change
    BB_High BB_Low ATR Donchian_High Donchian_Low Keltner_High Keltner_Low
    OBV MFI VWAP Volume_SMA Chaikin_Money_Flow Force_Index
    Log_Return
"""


def compute_all(bars: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return {name: feature.compute(bars) for name, feature in FEATURES.items()}


def test_every_indicator_of_the_earlier_system_comes_first_and_in_its_order():
    assert list(FEATURES)[:35] == EARLIER.split()
    assert len(FEATURES) == 200


def test_groups_hold_what_they_say():
    sizes = {
        "raw": 7,
        "trend": 9,
        "momentum": 5,
        "volatility": 7,
        "volume": 6,
        "returns": 8,
        "alpha158": 158,
    }
    assert {group: len(select([group])) for group in sizes} == sizes


def test_selection_keeps_declared_order_whatever_the_order_asked_for():
    chosen = select(["returns", "raw", "raw"])
    assert chosen == select(["raw", "returns"])
    assert chosen[0] == "Open"
    assert chosen[-1] == "Relative_Volume_20"


def test_an_unknown_group_is_named_with_those_there_are():
    with pytest.raises(StockAssetsError, match=r"no feature group astrology\. .*momentum"):
        select(["astrology", "raw"])


@law
@given(sound_bars(), st.data())
def test_no_feature_changes_when_the_future_is_cut_off(bars, data):
    cut = data.draw(st.integers(0, len(bars["close"])), label="rows kept")
    known = compute_all(part(bars, slice(cut)))
    for name, values in compute_all(bars).items():
        assert same_bits(values[:cut], known[name]), name


@law
@given(sound_bars(), st.integers(0, 2**32 - 1), st.data())
def test_no_feature_changes_when_the_future_is_another(bars, seed, data):
    cut = data.draw(st.integers(0, len(bars["close"])), label="rows kept")
    other = walk(len(bars["close"]), seed)
    for name in INPUT_COLUMNS:
        other[name][:cut] = bars[name][:cut]
    changed = compute_all(other)
    for name, values in compute_all(bars).items():
        assert same_bits(values[:cut], changed[name][:cut]), name


@law
@given(sound_bars())
def test_exactly_the_warm_up_is_missing(bars):
    for name, values in compute_all(bars).items():
        missing = np.arange(len(values)) < FEATURES[name].warm_up
        assert values.dtype == np.float64
        np.testing.assert_array_equal(np.isnan(values), missing, err_msg=name)
        assert np.isfinite(values[~missing]).all(), name


@law
@given(sound_bars(least=201), st.data())
def test_windowed_features_have_the_same_bits_wherever_history_starts(bars, data):
    row = data.draw(st.integers(200, len(bars["close"]) - 1), label="row")
    for name, feature in FEATURES.items():
        if not feature.depends_on_start:
            own_rows = part(bars, slice(row - feature.warm_up, row + 1))
            assert same_bits(
                feature.compute(own_rows)[-1:], feature.compute(bars)[row : row + 1]
            ), name


@pytest.mark.parametrize("name", [n for n, f in FEATURES.items() if f.depends_on_start])
def test_the_memory_of_recursive_features_fades(name, sample_bars: pd.DataFrame):
    bars = columns_of(sample_bars, "IBM")
    whole = FEATURES[name].compute(bars)
    shorter = FEATURES[name].compute(part(bars, slice(1000, None)))
    assert not same_bits(whole[1000:], shorter)
    assert shorter[-1] == pytest.approx(whole[-1], rel=1e-8)


@law
@given(sound_bars(), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_scale_free_features_see_neither_the_unit_of_price_nor_of_volume(bars, price, volume):
    units = dict.fromkeys(("open", "high", "low", "close", "dividends"), price)
    units["volume"] = volume
    scaled = {name: column * units.get(name, 1.0) for name, column in bars.items()}
    for name, feature in FEATURES.items():
        if feature.scale_free:
            np.testing.assert_allclose(
                feature.compute(scaled), feature.compute(bars), rtol=1e-9, atol=1e-9, err_msg=name
            )


@pytest.mark.parametrize(
    "name", [n for n, f in FEATURES.items() if not f.scale_free and n != "Dividends"]
)
def test_the_others_do_see_the_unit(name):
    bars = walk(250, seed=5)
    doubled = {column: 2.0 * values for column, values in bars.items()}
    assert FEATURES[name].compute(doubled)[-1] != FEATURES[name].compute(bars)[-1]


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
    """To rounding from the first value on; recursive ones once their other start is forgotten.

    The last row is left out: the ADX family of `ta` leaves a zero in it.
    """
    feature = FEATURES[name]
    start = feature.warm_up + (800 if feature.depends_on_start else 0)
    expected = REFERENCE[name](ibm).to_numpy()[start:-1]
    found = feature.compute(columns_of(ibm, "IBM"))[start:-1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).mean())


def test_ema_200_forgets_how_ta_starts_at_the_rate_of_its_smoothing(ibm: pd.DataFrame):
    """TA-Lib starts from the mean of the first window, `ta` from the first price."""
    expected = ta.trend.ema_indicator(ibm.close, 200).to_numpy()[199:]
    gap = np.abs(FEATURES["EMA_200"].compute(columns_of(ibm, "IBM"))[199:] - expected)
    np.testing.assert_allclose(gap, gap[0] * (199 / 201) ** np.arange(len(gap)), atol=1e-9)


def test_psar_mostly_agrees_with_ta(ibm: pd.DataFrame):
    """`ta` holds the stop at the low (high) of two sessions ago even where the last one's is
    farther; Wilder and TA-Lib take the farther of the two. They agree again at each reversal."""
    found = FEATURES["PSAR"].compute(columns_of(ibm, "IBM"))[100:]
    expected = ta.trend.PSARIndicator(ibm.high, ibm.low, ibm.close).psar().to_numpy()[100:]
    assert np.isclose(found, expected, rtol=1e-9).mean() > 0.9
    assert np.abs(found / expected - 1.0).mean() < 0.005
