"""How many windows pass through a network at once, given the memory of its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from stock_assets.models.networks import Network


@dataclass(frozen=True)
class Budget:
    """Bytes of a pass, and the most windows of one without gradients."""

    bytes: int
    windows: int


_CPU = Budget(32 * 2**20, 256)
"""A larger pass saves no time on a CPU. A constant, because the bits of a sum depend on it."""

_CUDA_WINDOWS = 2**14

_processes = 1
"""Number of processes that pass windows through networks at the same time."""


def share_memory(processes: int) -> None:
    """Divide the memory of CUDA devices among processes, of which this is one."""
    global _processes
    _processes = processes


@contextmanager
def on_device(network: Network, device: torch.device) -> Iterator[None]:
    """Move a network to a device, and back to the CPU afterwards."""
    network.to(device)
    try:
        yield
    finally:
        network.cpu()


def windows_per_pass(network: Network, *, gradients: bool) -> int:
    """Return the number of windows to pass through a network at once, at least 1.

    On a CPU a pass has 32 MiB. On a CUDA device it has up to half of the memory that is free now,
    divided by the number of processes that share it, rounded down to a power of 2, so that
    trainings on an idle device have equal passes.

    Parameters
    ----------
    network : Network
        On the device that computes.
    gradients : bool
        True for training, which takes its batches in passes.
    """
    budget = _budget(next(network.parameters()).device)
    fitting = max(1, budget.bytes // network.bytes_per_window())
    return fitting if gradients else min(fitting, budget.windows)


def _budget(device: torch.device) -> Budget:
    if device.type == "cpu":
        return _CPU
    free, _ = torch.cuda.mem_get_info(device)
    # What PyTorch has reserved and does not use is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    own = free // 2 // _processes
    return Budget(2 ** max(own, 1).bit_length() // 2, _CUDA_WINDOWS)
