"""Progress bars for long work, silent where nobody watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_terminal: TextIO | None = None


def keep_terminal() -> None:
    """Let bars go to this process's standard error as it is now.

    Dagster captures the output of a step while it runs; without this the bars of a step that runs
    in a command's own process would end in the captured log.
    """
    global _terminal
    if _terminal is None:
        _terminal = os.fdopen(os.dup(2), "w", buffering=1)


def bar(items: Iterable[Any] | None, name: str, total: int | None = None) -> Any:
    """Give a tqdm bar over `items`, or one to be moved by hand; off a terminal it shows nothing.

    Parameters
    ----------
    items : iterable or None
        What to iterate over; None for a bar that is moved by ``update``.
    name : str
        What stands before the bar.
    total : int, optional
        Number of items, where it cannot be told from them.
    """
    return tqdm(
        items, name, total, leave=False, file=_terminal or sys.stderr, disable=None, mininterval=0.2
    )
