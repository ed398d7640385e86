"""Truncated lists."""

from __future__ import annotations

import pytest

from stock_assets.core.text import truncate


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, ["0"]), (3, ["0", "1", "2"]), (5, ["0", "1", "2", "and 2 more"])],
)
def test_truncate_counts_the_rest(count: int, expected: list[str]) -> None:
    assert truncate([str(number) for number in range(count)], 3) == expected
