"""Runs numbered jobs in several processes that each open their own data."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

from stock_assets.core.progress import bar
from stock_assets.models.device import share_memory

Stopped = Callable[[], bool]
"""Returns whether a running job should stop, because another job has failed."""

Job = Callable[[int], None]


def run_in_processes(
    open_job: Callable[[Stopped], Job], numbers: Sequence[int], workers: int, name: str
) -> None:
    """Run a job once per number, in spawned processes.

    The processes end with the calling process, even if that is killed. They share the memory of
    CUDA devices equally.

    Parameters
    ----------
    open_job : callable
        Called in each process before its first job, with a `Stopped`; returns the job. It must be
        picklable.
    numbers : sequence of int
    workers : int
        Number of processes.
    name : str
        Label of the progress bar.

    Raises
    ------
    Exception
        The first error of a job or of `open_job`, after the running jobs have stopped. The waiting
        ones are cancelled.
    BrokenProcessPool
        A process was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    with ProcessPoolExecutor(workers, spawn, _start_worker, (open_job, stop, workers)) as pool:
        try:
            jobs = [pool.submit(_run, number) for number in numbers]
            for finished in bar(as_completed(jobs), name, total=len(jobs)):
                finished.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


_open_job: Callable[[], Job] | None = None
"""Opens the job of this process, if it is a worker."""

_job: Job | None = None
"""The job, once it is open."""


def _start_worker(open_job: Callable[[Stopped], Job], stop: Event, workers: int) -> None:
    global _open_job
    share_memory(workers)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # Progress bars of several processes would overwrite each other.
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (open to the end)
    # The pool would hide an error raised here, so the first job opens it.
    _open_job = partial(open_job, stop.is_set)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(number: int) -> None:
    global _job
    if _open_job is None:
        raise RuntimeError("this process was not started as a worker")
    if _job is None:
        _job = _open_job()
    _job(number)
