"""Jobs in several processes at once, each of which opens for itself what it works on."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

IsOver = Callable[[], bool]
"""Tells a worker in the middle of a job that nobody waits for it any more."""


def run_in_processes(
    open_job: Callable[[IsOver], Callable[[int], None]], numbers: Iterator[int], workers: int
) -> None:
    """Do a job for each number, so many at a time, in processes that are spawned for it.

    A number is taken when a worker is free for it, so that whoever gives the numbers can stop.
    Nobody outlives the process that calls this, even if that is killed.

    Parameters
    ----------
    open_job : callable
        Called in each process before its first job, with an `IsOver`; gives the job. It must
        survive a pickle.
    numbers : iterator of int
    workers : int
        Processes.

    Raises
    ------
    Exception
        What a job or its opening raised, after the others were told that all is over and have
        ended.
    BrokenProcessPool
        A process was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    over = spawn.Event()
    with ProcessPoolExecutor(workers, spawn, _open, (open_job, over)) as pool:
        running: set[Future[None]] = set()
        try:
            for number in numbers:
                running.add(pool.submit(_do, number))
                if len(running) == workers:
                    running = _raise_or_drop(running, FIRST_COMPLETED)
            _raise_or_drop(running, ALL_COMPLETED)
        except BaseException:
            over.set()
            raise


def _raise_or_drop(running: set[Future[None]], until: str) -> set[Future[None]]:
    """Wait, raise what a job raised, and give the jobs that still run."""
    done, left = wait(running, return_when=until)
    for job in done:
        job.result()
    return left


_opening: Callable[[], Callable[[int], None]] | None = None
"""What gives the job of this process, if it is a worker."""

_job: Callable[[int], None] | None = None
"""Its job, once there was something to do."""


def _open(open_job: Callable[[IsOver], Callable[[int], None]], over: Event) -> None:
    global _opening
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The progress bars of several processes would overwrite each other.
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (open to the end)
    # Not opened here: what an initializer raises is lost, and the pool is called broken.
    _opening = partial(open_job, over.is_set)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(number: int) -> None:
    global _job
    if _opening is None:
        raise RuntimeError("this process was not started as a worker")
    if _job is None:
        _job = _opening()
    _job(number)
