"""How much passes through a network at once, and where the memory it used goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stock_assets.models.networks import NetworkSpec
from stock_assets.models.working_memory import window_bytes, windows_at_once

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource
import stock_assets
import torch

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HOLES = r"""
import re
from pathlib import Path
import torch
from stock_assets.models.working_memory import give_back_large_blocks

def held():
    (kilobytes,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) // 1024

def kept_of_a_hole():
    before = held()
    hole = torch.ones(5 * 2**20)  # 20 MiB
    kept.append(torch.ones(2**18))  # 1 MiB: the hole is not at the end
    del hole
    return held() - before

kept = []
torch.ones(7 * 2**20)  # 28 MiB: once freed, the C library keeps what is smaller
print(kept_of_a_hole())
give_back_large_blocks()
print(kept_of_a_hole())
"""


def spec(architecture: str, tickers: int) -> NetworkSpec:
    return NetworkSpec(architecture, tickers, 35, 30, 64, 2, 0.0)


def told_by(script: str) -> list[int]:
    usual = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, env=usual
    )
    return [int(word) for word in done.stdout.split()]


def test_shared_weights_keep_a_state_per_ticker() -> None:
    """So a window of them fills more, and fewer pass at once; one always does."""
    assert window_bytes(spec("lstm_cross_attention", 500)) > 10 * window_bytes(spec("lstm", 500))
    assert windows_at_once(spec("lstm_cross_attention", 50)) > 1
    assert windows_at_once(spec("lstm_cross_attention", 5000)) == 1


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[madvise]" not in HUGE_PAGES.read_text(),
    reason="this kernel gives large pages to all or to nobody",
)
def test_large_tensors_lie_in_large_pages() -> None:
    (faults,) = told_by(FAULTS)
    assert faults < 64 * 2**20 / 4096 / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about the GNU C library")
def test_a_large_block_is_given_back_from_amid_others() -> None:
    usually, ours = told_by(HOLES)
    assert usually >= 20
    assert ours < 5
