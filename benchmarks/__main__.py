"""Measure the system and print one JSON document: ``python -m benchmarks``.

Ratios compare two measurements taken in turn in one run, so that they hold on a machine whose speed
varies. Everything runs in a temporary folder with its own database.
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
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import run_module, seconds_of

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def main() -> None:
    """Run the parts named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="repetitions of each measurement")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stock_assets_bench_") as name:
        folder = Path(name)
        for file in ("params.yaml", "dagster.yaml", "workspace.yaml"):
            shutil.copy(ROOT / file, folder / file)
        os.environ |= {
            "STOCK_ASSETS_PROJECT": name,
            "STOCK_ASSETS_HOME": str(folder / "home"),
            "PYTHONPATH": str(ROOT),
        }
        found = {part: PARTS[part](options.runs) for part in options.only}
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    print(json.dumps({"machine": machine, **found}, indent=2))


def demo(_: int) -> dict[str, float]:
    """Time the first and the second demo."""
    command = [BIN / "stock-assets", "demo"]
    return {
        "first_seconds": round(_run(command), 2),
        "second_seconds": round(_run(command), 2),
        "peak_megabytes_of_one_process": round(
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1
        ),
    }


def replay(_: int) -> dict[str, float]:
    """Read the scores of the demo's replay; needs ``demo``."""
    from stock_assets.evaluation.metrics import persistence_forecasts, score_rows, summarise
    from stock_assets.storage.forecasts import read_performance

    rows = read_performance(_engine(), date(2013, 1, 1), date(2013, 2, 28))
    model, persistence = summarise(rows), summarise(score_rows(persistence_forecasts(rows)))
    return {
        "forecasts": model.forecasts,
        "mape": model.mape,
        "persistence_mape": persistence.mape,
        "relative_mae": model.relative_mae,
        "direction_accuracy": model.direction_accuracy,
        "coverage": model.coverage,
    }


def prices(runs: int) -> dict[str, float]:
    """Time storing and reading the sample prices, as they are and as they were known."""
    from sqlalchemy import text

    from stock_assets.market.sources.base import fetch_from_bars
    from stock_assets.market.sources.sample import load_sample
    from stock_assets.storage.histories import HISTORIES
    from stock_assets.storage.prices import read_bars, store_prices
    from stock_assets.storage.record import head

    engine, bars, first, last = _engine(), load_sample(), date(2000, 3, 1), date(2013, 3, 1)

    def store() -> None:
        store_prices(engine, fetch_from_bars(bars), dict.fromkeys(bars["ticker"], first), "sample")

    first_times = []
    for _ in range(runs):
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text("TRUNCATE raw_stock_data, corporate_actions"))
            connection.execute(text(f"TRUNCATE {', '.join(map(str, HISTORIES.values()))}"))
        first_times.append(seconds_of(store))
    newest = head(engine)
    assert newest is not None
    reads = [
        tuple(
            seconds_of(partial(read_bars, engine, first, last, known_at=known_at))
            for known_at in (None, newest.written_at)
        )
        for _ in range(runs)
    ]
    return {
        "bars": len(bars),
        "store_seconds": statistics.median(first_times),
        "store_again_seconds": statistics.median(seconds_of(store) for _ in range(runs)),
        "read_seconds": statistics.median(now for now, _ in reads),
        "read_known_seconds": statistics.median(known for _, known in reads),
        "read_known_over_read": statistics.median(known / now for now, known in reads),
    }


def definitions_validate(runs: int) -> dict[str, float]:
    """Compare loading the graph with loading an empty project that imports pandas."""
    empty_project = _folder() / "empty_project.py"
    empty_project.write_text("import dagster as dg\nimport pandas\n\ndefs = dg.Definitions()\n")
    validate = [BIN / "dagster", "definitions", "validate"]
    ours = [*validate, "-m", "stock_assets.definitions"]
    empty = [*validate, "-f", empty_project]
    return _ratio([(_run(ours), _run(empty)) for _ in range(runs)], "empty_project")


def daily_job(runs: int) -> dict[str, Any]:
    """Compare the daily job with one of as many empty steps: in process, and as a new process.

    Needs ``demo``.
    """
    _engine()
    inside = run_module("benchmarks.job", runs + 1, "daily", "empty")
    jobs = [sys.executable, "-m", "benchmarks.job", "1"]
    outside = [(_run([*jobs, "daily"]), _run([*jobs, "empty"])) for _ in range(runs)]
    return {
        "in_one_process": _ratio(inside[1:], "empty_steps"),
        "new_process_with_imports": _ratio(outside, "empty_steps"),
    }


def _market_part(name: str) -> Callable[[int], Any]:
    """Run a module for 505 tickers in its own process, with its own database."""
    return lambda _: run_module(f"benchmarks.{name}", home=_folder() / name)


PARTS: dict[str, Callable[[int], Any]] = {
    "demo": demo,
    "replay": replay,
    "prices": prices,
    **{name: _market_part(name) for name in ("market", "features", "training", "service")},
    "definitions_validate": definitions_validate,
    "daily_job": daily_job,
}


def _folder() -> Path:
    return Path(os.environ["STOCK_ASSETS_PROJECT"])


def _engine() -> Any:
    """Open the installation; this also sets the variables that Dagster needs."""
    from stock_assets.cli.platform import open_platform

    return open_platform().engine


def _ratio(pairs: Sequence[Sequence[float]], reference: str) -> dict[str, float]:
    return {
        "seconds": statistics.median(ours for ours, _ in pairs),
        f"{reference}_seconds": statistics.median(theirs for _, theirs in pairs),
        "ratio": statistics.median(ours / theirs for ours, theirs in pairs),
    }


def _run(command: Sequence[Any]) -> float:
    return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


if __name__ == "__main__":
    main()
