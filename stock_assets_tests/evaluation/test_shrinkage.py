"""Shrinkage: nothing is kept of noise, and nearly all of a clear signal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.evaluation.shrinkage import fit_shrinkage

SHAPE = (42, 5)


def noise(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_clear_signal_keeps_its_factor() -> None:
    forecast = noise(1)
    assert fit_shrinkage(forecast, 0.5 * forecast + 0.01 * noise(2)) == pytest.approx(0.5, abs=0.01)
    assert fit_shrinkage(forecast, 3 * forecast) == pytest.approx(1.0, abs=0.02)


def test_reversed_signal_is_shrunk_to_nothing() -> None:
    forecast = noise(1)
    assert fit_shrinkage(forecast, -forecast) == 0.0


def test_noise_is_shrunk_below_the_best_factor_in_hindsight() -> None:
    factors = [fit_shrinkage(noise(seed), noise(seed + 1000)) for seed in range(200)]
    assert np.median(factors) == 0.0
    assert np.mean(factors) < 0.03


@pytest.mark.parametrize("forecast", [np.zeros(SHAPE), np.full(SHAPE, np.nan)])
def test_forecast_without_moves_has_the_factor_0(forecast: np.ndarray) -> None:
    assert fit_shrinkage(forecast, noise(1)) == 0.0


def test_too_few_sessions_have_the_factor_0() -> None:
    forecast = noise(1)[:7]
    assert fit_shrinkage(forecast, forecast) == 0.0


@given(st.integers(0, 1000), st.floats(-1.0, 1.0), st.floats(0.001, 1000), st.sampled_from([1, 3]))
def test_factor_is_a_share_and_does_not_depend_on_units_or_missing_pairs(
    seed: int, signal: float, unit: float, horizon: int
) -> None:
    forecast, missing = noise(seed), noise(seed + 1) > 1.5
    actual = signal * forecast + noise(seed + 2)
    actual[missing] = np.nan
    factor = fit_shrinkage(forecast, actual, horizon)
    assert 0 <= factor <= 1
    assert fit_shrinkage(unit * forecast, unit * actual, horizon) == pytest.approx(factor)
    forecast[missing] = 1e6
    assert fit_shrinkage(forecast, actual, horizon) == factor
