"""Times of requests, on a clock that only waiting moves."""

from __future__ import annotations

import threading

import pytest

from stock_assets.market.sources.rate_limits import ConsecutiveFailures, RateLimiter


class Clock:
    """A clock that sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.while_asleep = lambda: None

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.while_asleep()
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def turns(pace, clock, count):
    """The moments of the next turns, since the clock was started."""
    moments = []
    for _ in range(count):
        pace.wait()
        moments.append(clock.now - 100.0)
    return moments


def test_turns_are_evenly_apart(clock):
    assert turns(RateLimiter(4.0, clock.sleep, clock), clock, 4) == [0.0, 0.25, 0.5, 0.75]


def test_unused_time_does_not_accumulate(clock):
    pace = RateLimiter(4.0, clock.sleep, clock)
    clock.now += 10.0
    assert turns(pace, clock, 3) == [10.0, 10.25, 10.5]


def test_after_a_pause_turns_are_evenly_apart_again(clock):
    pace = RateLimiter(4.0, clock.sleep, clock)
    pace.wait()
    pace.pause(5.0)
    assert turns(pace, clock, 3) == [5.0, 5.25, 5.5]


def test_the_longest_of_several_pauses_counts(clock):
    pace = RateLimiter(4.0, clock.sleep, clock)
    pace.pause(5.0)
    pace.pause(1.0)
    assert turns(pace, clock, 1) == [5.0]


def test_a_pause_moves_the_turn_of_a_waiting_caller(clock):
    pace = RateLimiter(4.0, clock.sleep, clock)
    pace.wait()

    def pause_once():
        clock.while_asleep = lambda: None
        pace.pause(5.0)

    clock.while_asleep = pause_once
    assert turns(pace, clock, 2) == [5.0, 5.25]


def test_all_threads_share_the_turns():
    given = []
    pace = RateLimiter(4.0, sleep=given.append, clock=lambda: 0.0)
    threads = [threading.Thread(target=pace.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == [0.25 * turn for turn in range(8)]


def test_silence_counts_requests_and_their_tickers_until_an_answer():
    silence = ConsecutiveFailures()
    assert [silence.record(ticker) for ticker in ("A", "A", "B")] == [(1, 1), (2, 1), (3, 2)]
    assert not silence.ever_answered
    silence.reset()
    assert silence.ever_answered
    assert silence.record("A") == (1, 1)
