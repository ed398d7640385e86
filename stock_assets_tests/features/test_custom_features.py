"""Custom features: their contract, panels with them, and planted leaks."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from stock_assets.config import Dataset, Features
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.dataset import FeatureSet, build_feature_set
from stock_assets.features.feature import custom_feature
from stock_assets.features.formulas import FloatArray
from stock_assets.features.indicators import find_feature, price_columns, select
from stock_assets.features.lookahead import find_lookahead, has_selection_leak
from stock_assets.features.splits import ONE_FOLD
from stock_assets_tests.custom_code import FEATURE, PARAMS, custom_project
from stock_assets_tests.features.examples import FIRST, as_frame, session_dates, walk

DATASET = Dataset(window=10, validation_sessions=30, test_sessions=20)
BARS = as_frame({name: walk(200, seed) for seed, name in enumerate(("AAA", "BBB"))})
AS_OF: date = session_dates(200)[-1].date()
COPY = "np.log(close / lag(close, window))"
"""The formula of Log_Return_5."""
CHOSEN = Features(groups=["momentum"], custom=[FEATURE])


@pytest.fixture
def project(tmp_path: Path):
    with custom_project(tmp_path / "custom") as folder:
        yield folder


def built(features: Features = CHOSEN) -> FeatureSet:
    return build_feature_set(BARS, features, DATASET, FIRST, AS_OF)


def test_custom_feature_has_its_declaration_and_its_full_name(project: Path) -> None:
    feature = find_feature(FEATURE)
    assert (feature.name, feature.group, feature.inputs) == (FEATURE, "custom", ("open", "close"))
    assert (feature.window, feature.warm_up, feature.scale_free) == (5, 5, True)
    assert price_columns(FEATURE, "adjusted") == ("open", "close", "dividends", "stock_splits")


def test_panel_has_custom_features_after_those_of_groups(project: Path) -> None:
    panel = built().panel
    assert panel.features == (*select(["momentum"]), FEATURE)
    own = BARS[BARS["ticker"] == "AAA"]
    gap = np.log(own["open"].to_numpy()[1:] / own["close"].to_numpy()[:-1])
    valid = panel.valid[:, 0]
    expected = np.convolve(gap, np.full(5, 0.2), "valid")
    np.testing.assert_allclose(
        panel.values[valid, 0, -1], expected[-valid.sum() :], rtol=1e-5, atol=1e-8
    )


def test_a_feature_that_the_parameter_file_does_not_name_is_refused(project: Path) -> None:
    with pytest.raises(StockAssetsError, match="does not name the feature") as caught:
        built(Features(custom=["our_features:np"]))
    assert "features.custom" in caught.value.remedy


def test_documented_feature_does_not_look_ahead(project: Path) -> None:
    assert find_lookahead(built(), CHOSEN, 20) == []


@pytest.mark.parametrize(
    "leak",
    [
        "np.append(close[5:], np.full(min(5, len(close)), close[-1])) / opened",
        "close / close.mean()",
        "np.argsort(np.argsort(close)) / len(close)",
    ],
)
def test_lookahead_of_a_custom_feature_is_found(project: Path, leak: str) -> None:
    file = project / "our_features.py"
    text = file.read_text().replace("rolling_mean(np.log(opened / lag(close, 1)), window)", leak)
    assert leak in text
    file.write_text(text)
    assert find_lookahead(built(), CHOSEN, 20) == [FEATURE]


def test_custom_feature_may_be_redundant(project: Path) -> None:
    file = project / "our_features.py"
    text = file.read_text().replace("rolling_mean(np.log(opened / lag(close, 1)), window)", COPY)
    file.write_text(text)
    features = Features(groups=["returns"], custom=[FEATURE], correlation_threshold=0.99)
    data = built(features)
    assert data.dropped_features == {FEATURE: "Log_Return_5"}
    assert not has_selection_leak(data, features, DATASET, ONE_FOLD)
    assert has_selection_leak(replace(data, dropped_features={}), features, DATASET, ONE_FOLD)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("our_features:np", "is no feature"), ("our_copy:mean_gap", "is defined as our_features")],
)
def test_other_objects_are_no_features(tmp_path: Path, name: str, problem: str) -> None:
    with custom_project(tmp_path / "custom", {**PARAMS, "features": {"custom": [name]}}) as folder:
        (folder / "our_copy.py").write_text("from our_features import mean_gap\n")
        with pytest.raises(StockAssetsError, match=problem):
            find_feature(name)


def test_custom_feature_cannot_change_the_bars() -> None:
    @custom_feature(inputs=("close",))
    def careless(close: FloatArray) -> FloatArray:
        close[0] = 0.0
        return close

    bars = walk(10, seed=1)
    before = bars["close"].copy()
    with pytest.raises(ValueError, match="read-only"):
        careless.compute(bars)
    assert np.array_equal(bars["close"], before)


def test_custom_feature_may_return_an_input() -> None:
    @custom_feature(inputs=("close",), warm_up=2)
    def same(close: FloatArray) -> FloatArray:
        return close

    bars = walk(10, seed=1)
    before = bars["close"].copy()
    found = same.compute(bars)
    assert np.isnan(found).tolist() == [True] * 2 + [False] * 8
    assert np.array_equal(bars["close"], before)


def test_custom_feature_returns_one_number_per_bar() -> None:
    @custom_feature(inputs=("close",))
    def short(close: FloatArray) -> FloatArray:
        return close[1:]

    with pytest.raises(StockAssetsError, match=r"short returns shape \(9,\) for 10 bars"):
        short.compute(walk(10, seed=1))


@pytest.mark.parametrize("inputs", [(), ("close", "weather")])
def test_inputs_are_columns_of_a_bar(inputs: tuple[str, ...]) -> None:
    with pytest.raises(StockAssetsError, match="has the inputs") as caught:
        custom_feature(inputs=inputs)
    assert "dividends" in caught.value.remedy
