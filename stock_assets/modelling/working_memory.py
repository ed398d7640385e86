"""How many windows pass through a network at once, and what happens to the memory they used."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stock_assets.modelling.networks import ATTENTION_HEADS, NetworkSpec

# Bytes that the windows passing through a network at once may fill, with all that is kept of them:
# what processors hold near them decides the speed, and 32 MiB were faster than 128 by a third.
_WORKING_BYTES = 32 * 2**20

# The options of mallopt(3), and the values that the GNU C library itself moves up to at most.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_USUAL = {_MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}
_KEPT = dict.fromkeys(_USUAL, 512 * 2**20)


def window_bytes(spec: NetworkSpec) -> int:
    """Bytes that one window fills while a network learns from it.

    Per session of a window: three copies of its features, and of each layer's state four gates, the
    cell, its tanh, the output and its dropout, once or, where tickers share weights, per ticker,
    with the gradients of half of them. Attention across tickers keeps a score per pair and head.
    """
    sequences = spec.tickers if spec.architecture == "lstm_cross_attention" else 1
    inputs = 3 * spec.tickers * spec.features
    states = 12 * spec.layers * spec.hidden_size * sequences
    scores = 3 * ATTENTION_HEADS * sequences**2
    return 4 * (spec.window * (inputs + states) + scores)


def windows_at_once(spec: NetworkSpec) -> int:
    """Give the windows whose work stays near the processor, at least one."""
    return max(1, _WORKING_BYTES // window_bytes(spec))


@contextmanager
def working_memory(spec: NetworkSpec) -> Iterator[None]:
    """Keep the memory of one step for the next where a single window needs much.

    The GNU C library gives large blocks back to the system as soon as they are free, and gets them
    again, page by page and zeroed, for the next step: at 500 tickers nearly half of the time of
    attention across tickers. Elsewhere, and for smaller windows, nothing is changed.
    """
    library: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if window_bytes(spec) <= _WORKING_BYTES or not hasattr(library, "mallopt"):
        yield
        return
    _set(library, _KEPT)
    try:
        yield
    finally:
        _set(library, _USUAL)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        if not library.mallopt(option, value):
            return  # an older library, which keeps 32 MiB at most
