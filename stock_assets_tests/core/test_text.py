"""A long list is told by its first, and by how many more there are."""

from __future__ import annotations

import pytest

from stock_assets.core.text import truncate


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, []), (1, ["0"]), (3, ["0", "1", "2"]), (5, ["0", "1", "2", "and 2 more"])],
)
def test_what_is_beyond_the_most_is_counted(count: int, told: list[str]) -> None:
    assert truncate([str(number) for number in range(count)], 3) == told
