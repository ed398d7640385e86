"""How long something takes."""

import time
from collections.abc import Callable


def seconds_of(action: Callable[[], object]) -> float:
    """Do something and give the seconds that passed."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
