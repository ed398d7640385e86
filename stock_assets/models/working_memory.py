"""How many windows pass through a network at once, and where the memory they used goes."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from stock_assets.models.networks import ATTENTION_HEADS, NetworkSpec

# Bytes that the windows passing through a network at once may fill, with all that is kept of them:
# more takes memory and hardly saves time.
_WORKING_BYTES = 32 * 2**20

# An option of mallopt(3), and the size from which a block is large: the gates of an ordinary batch
# stay below it, those of a window of five hundred tickers lie above.
_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 6 * 2**20


def window_bytes(spec: NetworkSpec) -> int:
    """Bytes that one window fills while a network learns from it.

    Per session of a window: two copies of its features, and of each layer's state four gates, the
    cell, its tanh, the output and its dropout, once or, where tickers share weights, per ticker,
    with the gradients of half of them. Attention across tickers keeps a score per pair and head.
    """
    sequences = spec.tickers if spec.architecture == "lstm_cross_attention" else 1
    inputs = 2 * spec.tickers * spec.features
    states = 12 * spec.layers * spec.hidden_size * sequences
    scores = 3 * ATTENTION_HEADS * sequences**2
    return 4 * (spec.window * (inputs + states) + scores)


def windows_at_once(spec: NetworkSpec) -> int:
    """Give the windows that fill the working memory, at least one."""
    return max(1, _WORKING_BYTES // window_bytes(spec))


def give_back_large_blocks() -> None:
    """Have large blocks of memory given back to the system as soon as they are free.

    The GNU C library would keep blocks of up to 32 MiB for what comes next, which seldom fits: a
    training on five hundred tickers took 60 to 160 MB more. Holds for the process from now on,
    and ends the library's own adjustment of that size.
    """
    library: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)
