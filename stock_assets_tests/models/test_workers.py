"""Workers: no job is lost or made twice, errors arrive, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import psutil
import pytest

from stock_assets.core.errors import StockAssetsError
from stock_assets.models.workers import IsOver, run_in_processes
from stock_assets_tests.conftest import ROOT

pytestmark = pytest.mark.timeout(120)

START_WORKERS = """
import sys
from functools import partial
from pathlib import Path
from stock_assets_tests.models.test_workers import wait_for_ever, run_in_processes

if __name__ == "__main__":
    run_in_processes(partial(wait_for_ever, Path(sys.argv[1])), iter(range(2)), 2)
"""


def write_names(folder: Path, is_over: IsOver) -> Callable[[int], None]:
    return lambda number: (folder / f"{number}").write_text(str(os.getpid()))


def fail_at_two(folder: Path, is_over: IsOver) -> Callable[[int], None]:
    def job(number: int) -> None:
        if number == 2:
            raise ValueError("two is too many")
        (folder / f"{number}").touch()
        while number == 1 and not is_over():
            time.sleep(0.01)

    return job


def die(is_over: IsOver) -> Callable[[int], None]:
    return lambda number: os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(folder: Path, is_over: IsOver) -> Callable[[int], None]:
    def job(number: int) -> None:
        (folder / f"{os.getpid()}").touch()
        while True:
            time.sleep(0.1)

    return job


def test_every_number_is_done_once_by_processes_of_their_own(tmp_path: Path) -> None:
    run_in_processes(partial(write_names, tmp_path), iter(range(7)), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(number) for number in range(7)]
    makers = {path.read_text() for path in tmp_path.iterdir()}
    assert len(makers) <= 2
    assert str(os.getpid()) not in makers


def test_a_number_is_taken_only_when_a_worker_is_free(tmp_path: Path) -> None:
    def watched() -> Iterator[int]:
        for number in range(6):
            assert len(list(tmp_path.iterdir())) >= number - 1
            yield number

    run_in_processes(partial(write_names, tmp_path), watched(), 2)


def test_what_a_job_raises_arrives_and_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two is too many"):
        run_in_processes(partial(fail_at_two, tmp_path), iter([0, 1, 2, 3, 4, 5]), 2)
    assert sorted(path.name for path in tmp_path.iterdir())[:2] == ["0", "1"]
    assert not (tmp_path / "5").exists()


def fail_in_the_last(is_over: IsOver) -> Callable[[int], None]:
    def job(number: int) -> None:
        if number == 3:
            time.sleep(0.5)
            raise ValueError("the last one failed")

    return job


def fail_to_open(is_over: IsOver) -> Callable[[int], None]:
    raise StockAssetsError("there is nothing to work on", "Make some: stock-assets retrain")


def test_what_the_last_job_raises_arrives_too() -> None:
    with pytest.raises(ValueError, match="the last one failed"):
        run_in_processes(fail_in_the_last, iter(range(4)), 2)


def test_what_keeps_a_worker_from_opening_its_job_arrives_with_its_remedy() -> None:
    with pytest.raises(StockAssetsError, match="nothing to work on") as told:
        run_in_processes(fail_to_open, iter(range(2)), 2)
    assert told.value.remedy == "Make some: stock-assets retrain"


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(BrokenProcessPool):
        run_in_processes(die, iter(range(2)), 2)


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(START_WORKERS)
    folder = tmp_path / "workers"
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, script, folder], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while len(workers := [int(path.name) for path in folder.iterdir()]) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(
        [psutil.Process(worker) for worker in workers if psutil.pid_exists(worker)], timeout=60
    )
    assert alive == []
