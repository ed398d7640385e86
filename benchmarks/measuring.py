"""How long something takes, and how much memory a process took."""

import re
import time
from collections.abc import Callable
from pathlib import Path


def seconds_of(action: Callable[[], object]) -> float:
    """Do something and give the seconds that passed."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def peak_megabytes() -> float:
    """Most memory that this process has had, pages of mapped files included.

    The kernel's high-water mark, where there is a Linux: ``ru_maxrss`` also counts what the parent
    of a process held when it was made.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on a Mac
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(kilobytes) / 1024
