"""The conformal width has its guaranteed coverage, and the score prefers the true quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.intervals import (
    conformal_bounds,
    conformal_quantiles,
    enough_on_each_side,
    interval_score,
    require_enough,
)

errors = st.lists(st.floats(-100, 100), min_size=2, max_size=60)


def test_the_width_is_the_residual_of_the_corrected_rank() -> None:
    residuals = np.array([-1.0, 2.0, -3.0, 4.0, -5.0, 6.0, -7.0, 8.0, -9.0])
    assert conformal_quantiles(residuals, [0.5, 0.9]) == [5, 9]


@given(errors, st.floats(0.05, 0.95))
def test_leave_one_out_coverage_is_at_least_nominal(values: list[float], coverage: float) -> None:
    # The theorem itself: of K + 1 exchangeable errors, any one is as likely to be the next.
    every = np.array(values)
    others = [np.delete(every, position) for position in range(len(every))]
    try:
        require_enough(len(others[0]), coverage)
    except StockAssetsError:
        assert len(others[0]) < coverage / (1 - coverage) + 1e-6
        return
    widths = np.array([conformal_quantiles(rest, [coverage])[0] for rest in others])
    assert (np.abs(every) <= widths).mean() >= coverage - 1e-9


@given(errors, st.floats(0.05, 0.6), st.floats(0.01, 100))
def test_the_width_follows_the_unit_and_ignores_sign_and_order(
    values: list[float], coverage: float, unit: float
) -> None:
    residuals = np.array(values * 2)
    (width,) = conformal_quantiles(residuals, [coverage])
    assert conformal_quantiles(-residuals[::-1], [coverage]) == [width]
    assert conformal_quantiles(residuals * unit, [coverage]) == [width * unit]


@given(errors, st.floats(0.05, 0.6), st.floats(0.05, 0.6))
def test_more_coverage_is_never_narrower(values: list[float], one: float, other: float) -> None:
    residuals = np.array(values * 2)
    low, high = conformal_quantiles(residuals, sorted([one, other]))
    assert low <= high


def test_symmetric_bounds_are_the_half_width_on_both_sides() -> None:
    residuals = np.array([-1.0, 2.0, -3.0, 4.0, -5.0, 6.0, -7.0, 8.0, -9.0])
    assert conformal_bounds(residuals, [0.5, 0.9]) == [(-5, 5), (-9, 9)]


def test_asymmetric_bounds_are_signed_residuals_of_the_corrected_ranks() -> None:
    residuals = np.array([-4.0, -3.0, -2.0, -1.0, 10.0, 20.0, 30.0, 40.0, np.nan, 0.0])
    found = conformal_bounds(residuals, [0.2, 0.8], asymmetric=True)
    assert found == [(-1, 10), (-4, 40)]
    assert conformal_bounds(residuals, [0.99], asymmetric=True) == [(-4, 40)]
    assert conformal_bounds(np.arange(5.0, 12.0), [0.5], asymmetric=True) == [(0, 10)]
    assert np.isnan(conformal_bounds(np.array([np.nan]), [0.5, 0.9], asymmetric=True)).all()


@given(errors, st.floats(0.05, 0.95))
def test_leave_one_out_coverage_of_asymmetric_bounds_is_at_least_nominal(
    values: list[float], coverage: float
) -> None:
    every = np.array(values)
    if not enough_on_each_side(len(every) - 1, coverage):
        return
    inside = []
    for place, error in enumerate(every):
        ((lower, upper),) = conformal_bounds(np.delete(every, place), [coverage], asymmetric=True)
        inside.append(lower <= error <= upper)
    assert np.mean(inside) >= coverage - 1e-9


@given(errors, st.lists(st.floats(0.05, 0.95), min_size=2, max_size=5), st.booleans())
def test_bounds_of_several_coverages_never_cross(
    values: list[float], coverages: list[float], asymmetric: bool
) -> None:
    found = conformal_bounds(np.array(values), sorted(coverages), asymmetric=asymmetric)
    lower, upper = (np.array(side) for side in zip(*found, strict=True))
    assert (np.diff(lower) <= 0).all()
    assert (np.diff(upper) >= 0).all()
    assert (lower <= 0).all()
    assert (upper >= 0).all()


@given(errors, st.floats(0.05, 0.95))
def test_negated_residuals_exchange_the_asymmetric_bounds(
    values: list[float], coverage: float
) -> None:
    residuals = np.array(values)
    ((lower, upper),) = conformal_bounds(residuals, [coverage], asymmetric=True)
    assert conformal_bounds(-residuals[::-1], [coverage], asymmetric=True) == [(-upper, -lower)]


def test_too_few_residuals_are_an_error_with_the_number_needed() -> None:
    with pytest.raises(StockAssetsError, match=r"coverage 0.9 needs 9 residuals, not 8"):
        require_enough(8, 0.9)
    require_enough(9, 0.9)
    assert conformal_quantiles(np.arange(8.0), [0.9]) == [7.0]


def test_missing_residuals_do_not_count() -> None:
    residuals = np.array([[3.0, np.nan], [-1.0, 2.0]])
    assert conformal_quantiles(residuals, [0.5]) == conformal_quantiles(np.arange(1.0, 4), [0.5])
    assert np.isnan(conformal_quantiles(np.array([np.nan]), [0.5, 0.9])).all()


def test_interval_score_is_the_width_and_a_penalty_outside() -> None:
    outcome, lower, upper = np.array([0.0, -1.0, 2.5, -3.0]), np.array(-1.0), np.array(2.0)
    assert interval_score(outcome, lower, upper, 0.9).tolist() == pytest.approx([3, 3, 13, 43])


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_interval_score_is_lowest_near_the_quantile(coverage: float) -> None:
    error = np.random.default_rng(1).normal(size=20_000)
    widths = np.linspace(0.2, 3.0, 57)
    scores = [interval_score(error, -width, width, coverage).mean() for width in widths]
    (best,) = conformal_quantiles(error, [coverage])
    assert widths[np.argmin(scores)] == pytest.approx(best, abs=0.06)
