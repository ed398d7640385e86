"""Text for people, and files of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def truncate(lines: Sequence[str], most: int) -> list[str]:
    """Return the first ``most`` lines, and one that counts the rest."""
    more = len(lines) - most
    return [*lines[:most], f"and {more} more"] if more > 0 else list(lines)


def write_atomically(path: Path, text: str) -> None:
    """Replace a UTF-8 file by a text as a whole; its folder is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
