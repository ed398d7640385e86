"""Volatility: its rows read no later row, and gaps carry the value before them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.config import Scale
from stock_assets.features.volatility import log_ranges, volatility
from stock_assets_tests.features.examples import same_bits

SCALES = get_args(Scale)
each_scale = pytest.mark.parametrize("scale", SCALES)


def walk(seed: int, sessions: int = 80, tickers: int = 4, daily: float = 0.02) -> tuple:
    """Return closes and ranges of random walks of one volatility."""
    random = np.random.default_rng(seed)
    steps = daily / 20 * random.normal(size=(sessions, 400, tickers))
    path = steps.cumsum(axis=1)
    close = 50 * np.exp(steps.sum(axis=1).cumsum(axis=0))
    start = np.zeros((sessions, 1, tickers))
    inside = np.concatenate([start, path], axis=1)
    return close, inside.max(axis=1) - inside.min(axis=1)


@pytest.mark.parametrize("scale", ["deviation", "range", "combined"])
def test_scale_is_near_the_volatility_of_a_random_walk(scale: Scale) -> None:
    close, ranges = walk(1, sessions=400)
    found = volatility(scale, close, ranges)[100:]
    assert found.mean() == pytest.approx(0.02, rel=0.1)


def test_constant_scale_is_1() -> None:
    assert (volatility("constant", *walk(1)) == 1.0).all()


@pytest.mark.parametrize("scale", ["deviation", "range", "combined"])
def test_scale_follows_a_change_of_volatility(scale: Scale) -> None:
    close, ranges = walk(1, sessions=200)
    wild, wide = walk(2, sessions=100, daily=0.06)
    close = np.concatenate([close, close[-1] * wild / 50])
    found = volatility(scale, close, np.concatenate([ranges, wide]))
    assert found[-1].mean() > 2 * found[199].mean()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 79), st.integers(0, 1000), st.sampled_from(SCALES))
def test_no_row_depends_on_later_rows(known: int, seed: int, scale: Scale) -> None:
    close, ranges = walk(seed)
    gaps = np.random.default_rng(seed).random(close.shape) < 0.1
    close[gaps] = ranges[gaps] = np.nan
    whole = volatility(scale, close, ranges)
    assert same_bits(volatility(scale, close[:known], ranges[:known]), whole[:known])
    close[known:] *= 7.0
    ranges[known:] *= 7.0
    assert same_bits(volatility(scale, close, ranges)[:known], whole[:known])


@pytest.mark.parametrize("scale", ["deviation", "range"])
def test_gap_carries_the_value_before_it(scale: Scale) -> None:
    close, ranges = walk(1)
    close[40:50, 0] = ranges[40:50, 0] = np.nan
    found = volatility(scale, close, ranges)
    assert (found[40:50, 0] == found[39, 0]).all()
    assert found[55, 0] != found[39, 0]


@each_scale
def test_ticker_without_bars_has_the_mean_of_the_others(scale: Scale) -> None:
    close, ranges = walk(1)
    close[:, 0] = ranges[:, 0] = np.nan
    found = volatility(scale, close, ranges)
    assert np.isfinite(found[1:]).all()
    if scale in ("deviation", "range"):
        np.testing.assert_allclose(found[1:, 0], found[1:, 1:].mean(axis=1))


@each_scale
def test_scale_of_a_price_that_never_moves_is_positive(scale: Scale) -> None:
    close, ranges = walk(1)
    close[:, 0], ranges[:, 0] = 5.0, 0.0
    assert (volatility(scale, close, ranges)[1:] > 0).all()
    still = volatility(scale, np.ones_like(close), np.zeros_like(ranges))
    assert (still[1:] > 0).all()


def test_log_ranges_are_placed_by_session_and_ticker() -> None:
    sessions = pd.DatetimeIndex(["2013-01-02", "2013-01-03"])
    bars = pd.DataFrame(
        {
            "session": pd.to_datetime(["2013-01-03", "2013-01-02", "2013-01-04", "2013-01-02"]),
            "ticker": ["A", "B", "A", "C"],
            "high": [np.e, np.e**2, 9.0, 9.0],
            "low": [1.0, 1.0, 1.0, 1.0],
        }
    )
    found = log_ranges(bars, sessions, ["A", "B"])
    np.testing.assert_allclose(found, [[np.nan, 2.0], [1.0, np.nan]])
