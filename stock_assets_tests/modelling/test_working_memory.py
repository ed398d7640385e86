"""How much passes through a network at once, and where freed memory is kept."""

import subprocess
import sys

import pytest

from stock_assets.modelling.networks import NetworkSpec
from stock_assets.modelling.working_memory import window_bytes, windows_at_once

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about the GNU C library")
CHURN = """
import resource
import torch
from stock_assets.modelling.networks import NetworkSpec
from stock_assets.modelling.working_memory import working_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10 * 2**20)  # 40 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

large = NetworkSpec("lstm_cross_attention", 500, 35, 30, 64, 2, 0.0)
outside = faults()
with working_memory(large):
    faults()
    inside = faults()
print(outside, inside, faults())
"""


def spec(architecture: str, tickers: int) -> NetworkSpec:
    return NetworkSpec(architecture, tickers, 35, 30, 64, 2, 0.0)


def test_shared_weights_keep_a_state_per_ticker() -> None:
    """So a window of them fills more, and fewer pass at once; one always does."""
    assert window_bytes(spec("lstm_cross_attention", 500)) > 10 * window_bytes(spec("lstm", 500))
    assert windows_at_once(spec("lstm_cross_attention", 50)) > 1
    assert windows_at_once(spec("lstm_cross_attention", 5000)) == 1


@LINUX
def test_memory_is_kept_between_steps_of_large_windows_and_given_back_afterwards() -> None:
    told = subprocess.run(
        [sys.executable, "-c", CHURN], check=True, capture_output=True, text=True
    ).stdout.split()
    outside, inside, afterwards = map(int, told)
    assert inside < outside / 10
    assert afterwards > inside * 10
