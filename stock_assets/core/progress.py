"""Progress bars for long work, silent off a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_terminal: TextIO | None = None


def keep_terminal() -> None:
    """Show bars on this process's present standard error.

    Dagster captures the output of a running step; without this the bars of a step that runs in the
    command's own process would go to the captured log.
    """
    global _terminal
    if _terminal is None:
        _terminal = os.fdopen(os.dup(2), "w", buffering=1)


def bar(items: Iterable[Any] | None, name: str, total: int | None = None) -> Any:
    """Return a tqdm bar over `items`, or one moved by ``update``; off a terminal it is silent.

    Parameters
    ----------
    items : iterable or None
        The items to iterate over; None for a bar moved by ``update``.
    name : str
        The label before the bar.
    total : int, optional
        Number of items, if they have no length.
    """
    return tqdm(
        items, name, total, leave=False, file=_terminal or sys.stderr, disable=None, mininterval=0.2
    )
