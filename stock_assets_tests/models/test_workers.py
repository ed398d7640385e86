"""Workers: every job runs once, errors are raised, and no process survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import psutil
import pytest

from stock_assets.core.errors import StockAssetsError
from stock_assets.models import device
from stock_assets.models.workers import Stopped, run_in_processes
from stock_assets_tests.conftest import ROOT

START_WORKERS = """
import sys
from functools import partial
from pathlib import Path
from stock_assets_tests.models.test_workers import wait_forever, run

if __name__ == "__main__":
    run(partial(wait_forever, Path(sys.argv[1])), 2)
"""


def run(open_job: Callable[[Stopped], Callable[[int], None]], jobs: int) -> None:
    run_in_processes(open_job, range(jobs), 2, "jobs")


def write_names(folder: Path, stopped: Stopped) -> Callable[[int], None]:
    return lambda number: (folder / f"{number}").write_text(str(os.getpid()))


def write_processes(folder: Path, stopped: Stopped) -> Callable[[int], None]:
    return lambda number: (folder / f"{number}").write_text(str(device._processes))


def fail_at_two(folder: Path, stopped: Stopped) -> Callable[[int], None]:
    def job(number: int) -> None:
        if number == 2:
            raise ValueError("job 2 failed")
        (folder / f"{number}").touch()
        time.sleep(0.2)
        while number == 1 and not stopped():
            time.sleep(0.01)

    return job


def die(stopped: Stopped) -> Callable[[int], None]:
    return lambda number: os.kill(os.getpid(), signal.SIGKILL)


def wait_forever(folder: Path, stopped: Stopped) -> Callable[[int], None]:
    def job(number: int) -> None:
        (folder / f"{os.getpid()}").touch()
        while True:
            time.sleep(0.1)

    return job


def test_every_job_runs_once_in_other_processes(tmp_path: Path) -> None:
    run(partial(write_names, tmp_path), 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(number) for number in range(7)]
    processes = {path.read_text() for path in tmp_path.iterdir()}
    assert len(processes) <= 2
    assert str(os.getpid()) not in processes


def test_error_of_a_job_is_raised_and_stops_the_others(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="job 2 failed"):
        run(partial(fail_at_two, tmp_path), 40)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"0", "1"} <= names
    assert "39" not in names


def fail_to_open(stopped: Stopped) -> Callable[[int], None]:
    raise StockAssetsError("there is no data", "Run stock-assets retrain")


def test_error_of_opening_a_job_is_raised() -> None:
    with pytest.raises(StockAssetsError, match="there is no data") as caught:
        run(fail_to_open, 2)
    assert caught.value.remedy == "Run stock-assets retrain"


def test_killed_worker_is_an_error() -> None:
    with pytest.raises(BrokenProcessPool):
        run(die, 2)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
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
    # A worker that outlives its parent ends in the suite's timeout.
    psutil.wait_procs([psutil.Process(one) for one in workers if psutil.pid_exists(one)])


def test_workers_share_the_memory_of_cuda_devices(tmp_path: Path) -> None:
    run(partial(write_processes, tmp_path), 2)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"2"}
    assert device._processes == 1
