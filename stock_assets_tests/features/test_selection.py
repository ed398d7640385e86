"""Leaving features out: who represents whom, by the training sessions of all tickers alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.config import Dataset, Features
from stock_assets.features.dataset import FeatureSet, build_feature_set
from stock_assets.features.panel import build_panel
from stock_assets.features.selection import correlations, redundant
from stock_assets.features.splits import split_dataset
from stock_assets.market.adjustment import rebase
from stock_assets_tests.features.examples import (
    FIRST,
    as_frame,
    columns_of,
    law,
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
    """An open that is nearly the close, noise, and the noise upside down."""
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


def test_close_is_always_kept_and_otherwise_the_first_declared() -> None:
    values, valid = panel()
    assert redundant(values, valid, NAMES, 0.9) == {"Open": "Close", "Mirror": "Noise"}
    assert redundant(values[..., :1], valid, NAMES[:1], 0.9) == {}


def test_more_than_the_threshold_leaves_out_and_less_does_not() -> None:
    values, valid = panel()
    between = np.abs(correlations(values, valid))[0, 1]
    assert "Open" in redundant(values, valid, NAMES, between - 1e-6)
    assert "Open" not in redundant(values, valid, NAMES, between + 1e-6)


def test_the_strongest_represents() -> None:
    random = np.random.default_rng(3)
    base = random.normal(size=(500, 1, 1))
    near, far = (base + size * random.normal(size=base.shape) for size in (0.3, 0.6))
    values = np.concatenate([far, near, base], axis=2)
    names = ("Far", "Near", "Base")
    valid = np.ones(values.shape[:2], bool)
    strength = correlations(values, valid)
    assert strength[1, 2] > strength[0, 2] > strength[0, 1]
    assert redundant(values, valid, names, strength[0, 2] - 1e-6) == {"Base": "Near"}


def test_one_ticker_alone_is_what_numpy_says() -> None:
    values, valid = panel(tickers=1)
    expected = np.corrcoef(values[valid[:, 0], 0].astype(np.float64).T)
    np.testing.assert_allclose(correlations(values, valid), expected, atol=1e-12)


def test_every_ticker_counts_in_units_of_its_own() -> None:
    values, valid = panel()
    own = values.astype(np.float64)
    rescaled = own * np.array([1.0, 1000.0, 1e-3])[:, None] + np.array([0.0, 1e4, 7.0])[:, None]
    np.testing.assert_allclose(correlations(rescaled, valid), correlations(own, valid), atol=1e-9)
    apart = [np.corrcoef(own[valid[:, i], i].T) for i in range(3)]
    weighted = np.average(apart, axis=0, weights=valid.sum(axis=0))
    np.testing.assert_allclose(correlations(own, valid), weighted, atol=1e-12)


def test_a_feature_that_never_moves_correlates_with_nothing() -> None:
    values, valid = panel()
    values[..., 2] = 3.3
    strength = correlations(values, valid)
    assert not strength[2].any()
    assert redundant(values, valid, NAMES, 0.9) == {"Open": "Close"}


@law
@given(st.floats(-1e9, 1e9, width=32), st.booleans())
def test_what_is_not_valid_does_not_count(filler: float, missing: bool) -> None:
    values, valid = panel(rows=40)
    filled = np.where(valid[..., None], values, np.float32(np.nan if missing else filler))
    assert same_bits(correlations(filled, valid), correlations(values, valid))


def test_without_a_threshold_nothing_is_left_out() -> None:
    made = unfiltered()
    assert made.represented == {}
    assert len(made.panel.features) == 42


def test_a_dataset_keeps_what_is_not_represented() -> None:
    made, whole = built(), unfiltered()
    assert {"Open", "High", "SMA_50", "Williams_R"} <= set(made.represented)
    assert made.represented["Williams_R"] == "Stochastic_K"
    assert "Close" in made.panel.features
    kept = [name for name in whole.panel.features if name not in made.represented]
    assert list(made.panel.features) == kept
    assert set(made.represented.values()) <= set(kept)


def test_the_panel_is_the_one_that_serving_builds_from_the_kept_features() -> None:
    made = built()
    served = build_panel(
        rebase(made.bars, FEATURES.basis, made.adjustment_factors),
        made.panel.tickers,
        made.panel.features,
        FIRST,
        AS_OF,
    )
    assert same_bits(served.values, made.panel.values)
    assert np.array_equal(served.valid, made.panel.valid)


@pytest.mark.parametrize("seed", range(3))
def test_bars_after_training_change_no_choice(seed: int) -> None:
    """Through the building of a dataset: other prices, volumes and dividends, and splits."""
    made = built()
    stop = split_dataset(len(made.panel.sessions), DATASET).train.last + 1
    end = made.panel.sessions[stop - 1]
    other = as_frame(
        {name: walk(400, seed + 50 + i) for i, name in enumerate(("AAA", "BBB", "CCC"))}
    )
    later = BARS["session"] > end
    mixed = BARS.where(~later, other)
    mixed.loc[mixed.index[later][40], "stock_splits"] = 7.0
    again = built(mixed)
    assert again.represented == made.represented
    assert again.panel.features == made.panel.features
    assert columns_of(mixed, "AAA")["close"][-1] != columns_of(BARS, "AAA")["close"][-1]
