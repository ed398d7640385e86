"""Labels: the session after each row, and sums of steps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.features.labels import cumulate_steps, session_labels
from stock_assets.features.scaling import fit_scaler
from stock_assets_tests.features.examples import property_test, same_bits


def test_labels_are_the_next_session():
    close = np.array([[1.0, 10.0], [2.0, np.nan], [8.0, 30.0], [4.0, 60.0]])
    nan = np.nan
    np.testing.assert_array_equal(
        session_labels(close, "close"), [[2.0, nan], [8.0, nan], [4.0, 60.0], [nan, nan]]
    )
    np.testing.assert_allclose(
        session_labels(close, "log_return"),
        np.log([[2.0, nan], [4.0, nan], [0.5, 2.0], [nan, nan]]),
    )


@property_test
@given(st.integers(1, 12), st.sampled_from(["close", "log_return"]))
def test_only_the_last_row_has_no_label(rows, target):
    close = np.arange(1.0, rows + 1)[:, None]
    labels = session_labels(close, target)
    assert np.isfinite(labels[:, 0]).tolist() == [True] * (rows - 1) + [False]


def steps_of(closes, horizon):
    """What each of the sessions after a window does, for every window that has them all."""
    labels = {target: session_labels(closes, target) for target in ("close", "log_return")}
    ends = np.arange(len(closes) - horizon)
    return {target: labels[target][ends[:, None] + np.arange(horizon)] for target in labels}


@property_test
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4))
def test_cumulated_steps_reach_the_close_of_each_horizon(seed, horizon, tickers):
    closes = np.exp(np.random.default_rng(seed).normal(size=(12, tickers)))
    steps = steps_of(closes, horizon)
    later = np.stack([closes[ahead : 12 - horizon + ahead] for ahead in range(1, horizon + 1)], 1)
    np.testing.assert_array_equal(cumulate_steps(steps["close"], "close"), later)
    returns = cumulate_steps(steps["log_return"], "log_return")
    np.testing.assert_allclose(closes[: 12 - horizon, None] * np.exp(returns), later)


@property_test
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_returns_may_be_unscaled_before_or_after_cumulation(seed, horizon):
    random = np.random.default_rng(seed)
    scaled = random.normal(size=(5, horizon, 3))
    returns = random.normal(size=(80, 3, 1))
    scaler = fit_scaler(returns, np.isfinite(returns[..., 0]), "zero_mean")

    def unscaled(values):
        return scaler.inverse(values[..., None])[..., 0]

    np.testing.assert_allclose(
        unscaled(cumulate_steps(scaled, "log_return")),
        cumulate_steps(unscaled(scaled), "log_return"),
    )


def test_single_step_is_unchanged():
    steps = np.array([[[0.1, np.nan]]])
    for target in ("close", "log_return"):
        assert same_bits(cumulate_steps(steps, target), steps)


def test_cumulated_return_over_a_gap_is_missing():
    steps = np.array([[[1.0], [np.nan], [3.0]]])
    np.testing.assert_array_equal(
        cumulate_steps(steps, "log_return")[0, :, 0], [1.0, np.nan, np.nan]
    )
    np.testing.assert_array_equal(cumulate_steps(steps, "close"), steps)
