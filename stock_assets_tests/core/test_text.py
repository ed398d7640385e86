"""Truncated lists, and files that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from stock_assets.core.text import truncate, write_atomically


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, ["0"]), (3, ["0", "1", "2"]), (5, ["0", "1", "2", "and 2 more"])],
)
def test_truncate_counts_the_rest(count: int, expected: list[str]) -> None:
    assert truncate([str(number) for number in range(count)], 3) == expected


def test_a_text_replaces_a_file_and_leaves_no_other(tmp_path: Path) -> None:
    for text in ("first", "sécond"):
        write_atomically(tmp_path / "new" / "file.txt", text)
    (file,) = (tmp_path / "new").iterdir()
    assert file.read_bytes() == "sécond".encode()
