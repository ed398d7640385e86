"""How much of a long list a person is told."""

from __future__ import annotations

from collections.abc import Sequence


def truncate(told: Sequence[str], most: int) -> list[str]:
    """Give the first ``most`` of what there is to tell, and how many more there are."""
    more = len(told) - most
    return [*told[:most], f"and {more} more"] if more > 0 else list(told)
