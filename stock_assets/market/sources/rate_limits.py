"""How fast a source is asked, and how long it has been silent. Both are safe between threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RateLimiter:
    """Gives out moments to send requests at, evenly apart.

    Parameters
    ----------
    per_second : float
        The most requests in a second.
    sleep : callable
        Waits for a number of seconds; what it returns is not looked at.
    clock : callable
        Tells the seconds since any fixed moment.
    """

    def __init__(
        self,
        per_second: float,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1.0 / per_second
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._free_from = self._resumes = clock()

    def wait(self) -> None:
        """Wait until it is the caller's turn."""
        turn = self._turn()
        # A pause that began while the caller slept moves its turn.
        while turn < self._resumes:
            turn = self._turn()

    def pause(self, seconds: float) -> None:
        """Let nobody's turn come for some seconds from now."""
        with self._lock:
            self._resumes = max(self._resumes, self._clock() + seconds)
            self._free_from = max(self._free_from, self._resumes)

    def _turn(self) -> float:
        with self._lock:
            now = self._clock()
            turn = max(self._free_from, now)
            self._free_from = turn + self._interval
        self._sleep(turn - now)
        return turn


class ConsecutiveFailures:
    """Counts requests in a row that brought no answer.

    Attributes
    ----------
    broken : bool
        Whether there has ever been an answer.
    """

    def __init__(self) -> None:
        self.broken = False
        self._tickers: list[str] = []
        self._lock = threading.Lock()

    def end(self) -> None:
        """Note that an answer came."""
        with self._lock:
            self.broken = True
            self._tickers.clear()

    def grow(self, ticker: str) -> tuple[int, int]:
        """Note that none came; gives how many did not in a row, and for how many tickers."""
        with self._lock:
            self._tickers.append(ticker)
            return len(self._tickers), len(set(self._tickers))
