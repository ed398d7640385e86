"""Measure the system and print one JSON document.

Ratios compare two things measured in turn in one run, so that they hold when the machine's speed
drifts. Everything happens in a scratch folder with a database of its own.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measuring import seconds_of

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def main() -> None:
    """Run the measurements that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="repetitions of each measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stock_assets_bench_") as folder:
        print(json.dumps(measure(Path(folder), options.runs), indent=2))


def measure(folder: Path, runs: int) -> dict[str, Any]:
    """Lay out a project in `folder` and measure it."""
    for name in ("params.yaml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder / name)
    os.environ |= {"STOCK_ASSETS_PROJECT": str(folder), "STOCK_ASSETS_HOME": str(folder / "home")}
    os.environ["PYTHONPATH"] = str(ROOT)
    demo = [_demo(), _demo()]
    from stock_assets.cli.platform import open_platform

    opened = open_platform()
    return {
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "demo": {
            "first_seconds": demo[0],
            "second_seconds": demo[1],
            "peak_megabytes_of_one_process": _children_megabytes(),
        },
        "replay": _replay(opened.engine),
        "prices": _prices(opened.engine, runs),
        "market": _alone("market", folder),
        "features": _alone("features", folder),
        "training": _alone("training", folder),
        "service": _alone("service", folder),
        "definitions_validate": _validate(folder, runs),
        "daily_job": _daily_job(runs),
    }


def _demo() -> float:
    began = time.perf_counter()
    subprocess.run([BIN / "stock-assets", "demo"], check=True, capture_output=True)
    return round(time.perf_counter() - began, 2)


def _children_megabytes() -> float:
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)


def _replay(engine: Any) -> dict[str, float]:
    from stock_assets.evaluation.metrics import persistence_forecasts, score_rows, summarise
    from stock_assets.storage.forecasts import read_performance

    rows = read_performance(engine, date(2013, 1, 1), date(2013, 2, 28))
    model, persistence = summarise(rows), summarise(score_rows(persistence_forecasts(rows)))
    return {
        "forecasts": model.forecasts,
        "mape": model.mape,
        "persistence_mape": persistence.mape,
        "relative_mae": model.relative_mae,
        "direction_accuracy": model.direction_accuracy,
        "coverage": model.coverage,
    }


def _prices(engine: Any, runs: int) -> dict[str, float]:
    from sqlalchemy import text

    from stock_assets.market.sources.base import fetch_from_bars
    from stock_assets.market.sources.sample import load_sample
    from stock_assets.storage.prices import read_bars, store_prices

    bars, first, last = load_sample(), date(2000, 3, 1), date(2013, 3, 1)

    def empty() -> None:
        with engine.begin() as connection:
            connection.execute(text("TRUNCATE raw_stock_data, corporate_actions"))

    def store_all() -> None:
        store_prices(engine, fetch_from_bars(bars), dict.fromkeys(bars["ticker"], first), "sample")

    store = []
    for _ in range(runs):
        empty()
        store.append(seconds_of(store_all))
    again = _repeat(store_all, runs)
    read = [seconds_of(lambda: read_bars(engine, first, last)) for _ in range(runs)]
    return {
        "bars": len(bars),
        "store_seconds": statistics.median(store),
        "store_again_seconds": statistics.median(again),
        "read_seconds": statistics.median(read),
    }


def _alone(name: str, folder: Path) -> Any:
    """Measure 505 tickers, in a process and a database of their own."""
    alone = {**os.environ, "STOCK_ASSETS_HOME": str(folder / name)}
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=alone)
    return json.loads(told.stdout.splitlines()[-1])


def _validate(folder: Path, runs: int) -> dict[str, float]:
    """Compare loading the graph with loading a project that has nothing in it."""
    nothing = folder / "nothing.py"
    nothing.write_text("import dagster as dg\n\ndefs = dg.Definitions()\n")
    ours = [BIN / "dagster", "definitions", "validate", "-m", "stock_assets.definitions"]
    empty = [BIN / "dagster", "definitions", "validate", "-f", nothing]
    pairs = [(_run(ours), _run(empty)) for _ in range(runs)]
    return _compared(pairs, "empty_project")


def _daily_job(runs: int) -> dict[str, Any]:
    """Compare the daily job with one of as many empty steps: running, and as a whole process."""
    jobs = [sys.executable, "-m", "benchmarks.job"]
    inside = subprocess.run(
        [*jobs, str(runs + 1), "daily", "empty"], check=True, capture_output=True, text=True
    )
    daily, empty = ([*jobs, "1", name] for name in ("daily", "empty"))
    whole = [(_run(daily), _run(empty)) for _ in range(runs)]
    return {
        "in_one_process": _compared(json.loads(inside.stdout.splitlines()[-1])[1:], "empty_steps"),
        "whole_process_with_imports": _compared(whole, "empty_steps"),
    }


def _compared(pairs: Sequence[Sequence[float]], against: str) -> dict[str, float]:
    return {
        "seconds": statistics.median(ours for ours, _ in pairs),
        f"{against}_seconds": statistics.median(theirs for _, theirs in pairs),
        "ratio": statistics.median(ours / theirs for ours, theirs in pairs),
    }


def _run(command: list[Any]) -> float:
    return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


def _repeat(action: Callable[[], object], runs: int) -> list[float]:
    return [seconds_of(action) for _ in range(runs)]


if __name__ == "__main__":
    main()
