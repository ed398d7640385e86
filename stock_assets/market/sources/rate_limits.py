"""Thread-safe: paces requests to a source and counts its consecutive failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RateLimiter:
    """Spaces requests evenly in time.

    Parameters
    ----------
    per_second : float
        The largest number of requests per second.
    sleep : callable
        Waits for a number of seconds; its result is ignored.
    clock : callable
        Returns the seconds since any fixed moment.
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
        """Wait for the caller's turn."""
        turn = self._turn()
        # A pause that began while the caller slept moves its turn.
        while turn < self._resumes:
            turn = self._turn()

    def pause(self, seconds: float) -> None:
        """Delay every turn until some seconds from now."""
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
    """Counts consecutive requests without an answer.

    Attributes
    ----------
    ever_answered : bool
        Whether any request was answered.
    """

    def __init__(self) -> None:
        self.ever_answered = False
        self._tickers: list[str] = []
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Record an answer."""
        with self._lock:
            self.ever_answered = True
            self._tickers.clear()

    def record(self, ticker: str) -> tuple[int, int]:
        """Record a failure; return the consecutive failures and the number of their tickers."""
        with self._lock:
            self._tickers.append(ticker)
            return len(self._tickers), len(set(self._tickers))
