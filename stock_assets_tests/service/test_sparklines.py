"""Sparklines: positions of their points."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stock_assets.service.sparklines import HEIGHT, WIDTH, sparklines

PRICES = st.one_of(st.just(float("nan")), st.floats(0.01, 1e5))


def points(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in line.split())]


def test_rising_closes_go_from_lower_left_to_upper_right() -> None:
    (line,) = sparklines(np.array([[1.0, 2.0, 3.0]]))
    assert points(line) == [(2, 26), (60, 14), (118, 2)]


def test_equal_closes_are_a_horizontal_line() -> None:
    (line,) = sparklines(np.full((1, 4), 7.0))
    assert len({y for _, y in points(line)}) == 1


def test_single_close_has_no_line() -> None:
    assert sparklines(np.array([[np.nan, 5.0], [np.nan, np.nan]])) == ["", ""]


@given(arrays(float, (3, 6), elements=PRICES))
def test_each_close_has_a_point_inside_the_image(closes: np.ndarray) -> None:
    for line, row in zip(sparklines(closes), closes, strict=True):
        known = np.isfinite(row)
        drawn = points(line)
        assert len(drawn) == (known.sum() if known.sum() > 1 else 0)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn)
        heights = [y for _, y in drawn]
        order = np.argsort(row[known], kind="stable")
        assert [heights[place] for place in order[: len(heights)]] == sorted(heights, reverse=True)
