"""Run one job for one session in this process: ``python -m benchmarks.job daily|empty [N]``.

Prints the seconds of each of N runs; the first one pays for the imports.
"""

import json
import sys
import time

SESSION = "2013-02-28"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main(name: str, runs: int) -> list[float]:
    """Run the job so many times and time each."""
    from dagster import DagsterInstance

    if name == "daily":
        from stock_assets.definitions import defs
    else:
        from benchmarks.empty import defs
    instance = DagsterInstance.get()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        result = defs.resolve_job_def(name).execute_in_process(
            instance=instance, partition_key=SESSION, run_config=QUIET
        )
        seconds.append(time.perf_counter() - began)
        if not result.success:
            raise SystemExit(f"the job {name} failed")
    return seconds


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)))
