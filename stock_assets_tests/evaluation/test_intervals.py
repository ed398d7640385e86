"""The conformal width has its guaranteed coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.intervals import conformal_half_width

errors = st.lists(st.floats(-100, 100), min_size=2, max_size=60)


def test_the_width_is_the_residual_of_the_corrected_rank() -> None:
    residuals = np.array([-1.0, 2.0, -3.0, 4.0, -5.0, 6.0, -7.0, 8.0, -9.0])
    assert conformal_half_width(residuals, 0.5) == 5
    assert conformal_half_width(residuals, 0.9) == 9


@given(errors, st.floats(0.05, 0.95))
def test_leave_one_out_coverage_is_at_least_nominal(values: list[float], coverage: float) -> None:
    # The theorem itself: of K + 1 exchangeable errors, any one is as likely to be the next.
    every = np.array(values)
    others = [np.delete(every, position) for position in range(len(every))]
    try:
        widths = np.array([conformal_half_width(rest, coverage) for rest in others])
    except StockAssetsError:
        assert len(others[0]) < coverage / (1 - coverage) + 1e-6
        return
    assert (np.abs(every) <= widths).mean() >= coverage - 1e-9


@given(errors, st.floats(0.05, 0.6), st.floats(0.01, 100))
def test_the_width_follows_the_unit_and_ignores_sign_and_order(
    values: list[float], coverage: float, unit: float
) -> None:
    residuals = np.array(values * 2)
    width = conformal_half_width(residuals, coverage)
    assert conformal_half_width(-residuals[::-1], coverage) == width
    assert conformal_half_width(residuals * unit, coverage) == width * unit


@given(errors, st.floats(0.05, 0.6), st.floats(0.05, 0.6))
def test_more_coverage_is_never_narrower(values: list[float], one: float, other: float) -> None:
    residuals = np.array(values * 2)
    low, high = sorted([one, other])
    assert conformal_half_width(residuals, low) <= conformal_half_width(residuals, high)


def test_too_few_residuals_are_an_error_with_the_number_needed() -> None:
    with pytest.raises(StockAssetsError, match=r"coverage 0.9 needs 9 residuals, not 8"):
        conformal_half_width(np.ones(8), 0.9)
    assert conformal_half_width(np.ones(9), 0.9) == 1


def test_a_residual_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(StockAssetsError, match="1 of 20 residuals are not finite"):
        conformal_half_width(np.array([np.nan, *[1.0] * 19]), 0.5)
