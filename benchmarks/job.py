"""Run jobs for one session in this process: ``python -m benchmarks.job N daily|empty ...``.

The jobs run in turn, N times each. Prints a list per turn with the seconds of each job; the first
turn includes the imports.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

SESSION = "2013-02-28"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main(runs: int, names: Sequence[str]) -> list[list[float]]:
    """Run the jobs in turn and return their seconds per turn."""
    from dagster import DagsterInstance

    instance = DagsterInstance.get()
    return [[_seconds(name, instance) for name in names] for _ in range(runs)]


def _seconds(name: str, instance: "DagsterInstance") -> float:
    began = time.perf_counter()
    if name == "daily":
        from stock_assets.definitions import defs as graph
    else:
        from benchmarks.empty import graph
    result = (
        graph()
        .resolve_job_def(name)
        .execute_in_process(instance=instance, partition_key=SESSION, run_config=QUIET)
    )
    if not result.success:
        raise SystemExit(f"the job {name} failed")
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2:])))
