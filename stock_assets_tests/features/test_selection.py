"""Feature selection: redundant features are found in the train segment of all tickers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.config import Dataset, Features
from stock_assets.features.dataset import FeatureSet, build_feature_set
from stock_assets.features.indicators import select
from stock_assets.features.panel import build_panel
from stock_assets.features.selection import correlations, find_redundant_features
from stock_assets.features.splits import split_dataset
from stock_assets.market.adjustment import rebase
from stock_assets_tests.features.examples import (
    FIRST,
    as_frame,
    columns_of,
    property_test,
    same_bits,
    session_dates,
    walk,
)

NAMES = ("Open", "Close", "Noise", "Mirror")
FEATURES = Features(
    groups=["raw", "trend", "momentum", "volatility", "volume", "returns"],
    correlation_threshold=0.9,
)
DATASET = Dataset(window=10, validation_sessions=30, test_sessions=20)
BARS = as_frame({name: walk(400, seed) for seed, name in enumerate(("AAA", "BBB", "CCC"))})
AS_OF = session_dates(400)[-1].date()


def panel(rows: int = 300, tickers: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return an open close to the close, noise, and negated noise."""
    random = np.random.default_rng(7)
    close = random.normal(size=(rows, tickers)).cumsum(axis=0) + 50.0
    noise = random.normal(size=(rows, tickers))
    values = np.stack([close + 0.01 * noise, close, noise, 5.0 - 2.0 * noise], axis=2)
    return values.astype(np.float32), random.random((rows, tickers)) < 0.9


def built(bars=BARS, **changes: object) -> FeatureSet:
    features = FEATURES.model_copy(update=changes)
    return build_feature_set(bars, features, DATASET, FIRST, AS_OF)


@cache
def unfiltered() -> FeatureSet:
    return built(correlation_threshold=None)


def test_close_then_the_first_feature_is_kept() -> None:
    values, valid = panel()
    assert find_redundant_features(values, valid, NAMES, 0.9) == {
        "Open": "Close",
        "Mirror": "Noise",
    }
    assert find_redundant_features(values[..., :1], valid, NAMES[:1], 0.9) == {}


def test_threshold_separates_redundant_features() -> None:
    values, valid = panel()
    between = np.abs(correlations(values, valid))[0, 1]
    assert "Open" in find_redundant_features(values, valid, NAMES, between - 1e-6)
    assert "Open" not in find_redundant_features(values, valid, NAMES, between + 1e-6)


def test_redundant_feature_names_its_strongest_correlation() -> None:
    random = np.random.default_rng(3)
    base = random.normal(size=(500, 1, 1))
    near, far = (base + size * random.normal(size=base.shape) for size in (0.3, 0.6))
    values = np.concatenate([far, near, base], axis=2)
    names = ("Far", "Near", "Base")
    valid = np.ones(values.shape[:2], bool)
    strength = correlations(values, valid)
    assert strength[1, 2] > strength[0, 2] > strength[0, 1]
    assert find_redundant_features(values, valid, names, strength[0, 2] - 1e-6) == {"Base": "Near"}


def test_correlations_of_one_ticker_agree_with_numpy() -> None:
    values, valid = panel(tickers=1)
    expected = np.corrcoef(values[valid[:, 0], 0].astype(np.float64).T)
    np.testing.assert_allclose(correlations(values, valid), expected, atol=1e-12)


def test_correlations_ignore_the_scale_of_each_ticker() -> None:
    values, valid = panel()
    own = values.astype(np.float64)
    rescaled = own * np.array([1.0, 1000.0, 1e-3])[:, None] + np.array([0.0, 1e4, 7.0])[:, None]
    np.testing.assert_allclose(correlations(rescaled, valid), correlations(own, valid), atol=1e-9)
    apart = [np.corrcoef(own[valid[:, i], i].T) for i in range(3)]
    weighted = np.average(apart, axis=0, weights=valid.sum(axis=0))
    np.testing.assert_allclose(correlations(own, valid), weighted, atol=1e-12)


def test_constant_feature_has_no_correlation() -> None:
    values, valid = panel()
    values[..., 2] = 3.3
    strength = correlations(values, valid)
    assert not strength[2].any()
    assert find_redundant_features(values, valid, NAMES, 0.9) == {"Open": "Close"}


@property_test
@given(st.floats(-1e9, 1e9, width=32), st.booleans())
def test_invalid_values_are_ignored(filler: float, missing: bool) -> None:
    values, valid = panel(rows=40)
    filled = np.where(valid[..., None], values, np.float32(np.nan if missing else filler))
    assert same_bits(correlations(filled, valid), correlations(values, valid))


def test_without_a_threshold_no_feature_is_dropped() -> None:
    data = unfiltered()
    assert data.dropped_features == {}
    assert data.panel.features == select(FEATURES.groups)


def test_dataset_drops_redundant_features() -> None:
    data, whole = built(), unfiltered()
    assert {"Open", "High", "SMA_50", "Williams_R"} <= set(data.dropped_features)
    assert data.dropped_features["Williams_R"] == "Stochastic_K"
    assert "Close" in data.panel.features
    kept = [name for name in whole.panel.features if name not in data.dropped_features]
    assert list(data.panel.features) == kept
    assert set(data.dropped_features.values()) <= set(kept)


def test_panel_equals_the_one_that_serving_builds() -> None:
    data = built()
    served = build_panel(
        rebase(data.bars, FEATURES.basis, data.adjustment_factors),
        data.panel.tickers,
        data.panel.features,
        FIRST,
        AS_OF,
    )
    assert same_bits(served.values, data.panel.values)
    assert np.array_equal(served.valid, data.panel.valid)


@pytest.mark.parametrize("seed", range(3))
def test_selection_does_not_depend_on_bars_after_training(seed: int) -> None:
    data = built()
    stop = split_dataset(len(data.panel.sessions), DATASET).train.last + 1
    end = data.panel.sessions[stop - 1]
    other = as_frame(
        {name: walk(400, seed + 50 + i) for i, name in enumerate(("AAA", "BBB", "CCC"))}
    )
    later = BARS["session"] > end
    mixed = BARS.where(~later, other)
    mixed.loc[mixed.index[later][40], "stock_splits"] = 7.0
    again = built(mixed)
    assert again.dropped_features == data.dropped_features
    assert again.panel.features == data.panel.features
    assert columns_of(mixed, "AAA")["close"][-1] != columns_of(BARS, "AAA")["close"][-1]
