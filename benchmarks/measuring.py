"""Time, peak memory, and results of modules run in their own process."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def seconds_of(action: Callable[[], object]) -> float:
    """Return how many seconds an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def run_module(name: str, *arguments: object, home: Path | None = None) -> Any:
    """Run a module in a new process and return the JSON on the last line of its output."""
    command = [sys.executable, "-m", name, *map(str, arguments)]
    environment = os.environ | ({"STOCK_ASSETS_HOME": str(home)} if home else {})
    finished = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return json.loads(finished.stdout.splitlines()[-1])


def peak_megabytes() -> float:
    """Return the peak memory of this process, pages of mapped files included.

    On Linux this is the kernel's high-water mark: ``ru_maxrss`` also counts the memory of the
    parent at the time of the fork.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on a Mac
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(kilobytes) / 1024
