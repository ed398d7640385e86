"""Text for people."""

from __future__ import annotations

from collections.abc import Sequence


def truncate(lines: Sequence[str], most: int) -> list[str]:
    """Return the first ``most`` lines, and one that counts the rest."""
    more = len(lines) - most
    return [*lines[:most], f"and {more} more"] if more > 0 else list(lines)
