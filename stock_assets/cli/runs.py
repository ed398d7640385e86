"""Run the graph's jobs in this process, with progress, on the installation's Dagster instance."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEventType as Event
from rich.console import Console

from stock_assets.cli.orphaned_runs import end_orphaned_runs, process_tag
from stock_assets.cli.platform import Platform
from stock_assets.cli.versions import person
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import write_moment
from stock_assets.core.progress import bar, keep_terminal
from stock_assets.defs.metadata import USER_TAG
from stock_assets.defs.partitions import datasets, session_key

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
_PROGRESS = (Event.ASSET_MATERIALIZATION_PLANNED, Event.ASSET_MATERIALIZATION)
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_sessions(
    platform: Platform,
    console: Console,
    assets: Sequence[str],
    sessions: Sequence[date],
) -> dg.ExecuteInProcessResult:
    """Materialize daily assets for a range of sessions as one run of the daily job."""
    tags = {RANGE_START: session_key(sessions[0]), RANGE_END: session_key(sessions[-1])}
    return _run(platform, console, "daily", assets, len(sessions), tags=tags)


def run_session(
    platform: Platform, console: Console, assets: Sequence[str], session: date
) -> dg.ExecuteInProcessResult:
    """Materialize daily assets for one session."""
    return _run(platform, console, "daily", assets, 1, partition_key=session_key(session))


def run_dataset(
    platform: Platform, console: Console, dataset_id: str, known_at: datetime | None = None
) -> None:
    """Run the retraining job for a dataset; add its partition if it is missing."""
    platform.instance.add_dynamic_partitions(str(datasets.name), [dataset_id])
    config = {} if known_at is None else {"known_at": write_moment(known_at)}
    _run(
        platform,
        console,
        "retraining",
        None,
        1,
        partition_key=dataset_id,
        config={"processed_features": config},
    )


def _run(
    platform: Platform,
    console: Console,
    job_name: str,
    assets: Sequence[str] | None,
    partitions: int,
    *,
    partition_key: str | None = None,
    tags: dict[str, str] | None = None,
    config: dict[str, dict[str, str]] | None = None,
) -> dg.ExecuteInProcessResult:
    end_orphaned_runs(platform)
    keep_terminal()
    job = platform.definitions.resolve_job_def(job_name)
    run_id = str(uuid.uuid4())
    with _Progress(console, partitions) as progress:
        platform.instance.add_event_listener(run_id, progress)
        result = job.execute_in_process(
            run_config={
                **_QUIET,
                "ops": {asset: {"config": values} for asset, values in (config or {}).items()},
            },
            instance=platform.instance,
            run_id=run_id,
            partition_key=partition_key,
            tags=process_tag() | _user_tag() | (tags or {}),
            asset_selection=None if assets is None else [dg.AssetKey(name) for name in assets],
            raise_on_error=False,
        )
    if not result.success:
        raise _failure(result)
    return result


def _user_tag() -> dict[str, str]:
    user = person()
    return {} if user is None else {USER_TAG: user}


class _Progress:
    """Shows each step of a run: a bar over its partitions, then a line when it has ended."""

    def __init__(self, console: Console, partitions: int) -> None:
        self._console, self._partitions = console, partitions
        self._bar: Any = None
        self._began = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None or event.step_key is None:
            return
        if event.event_type == Event.ASSET_MATERIALIZATION_PLANNED and self._bar is None:
            self._bar = bar(None, "planning")
        if event.event_type == Event.STEP_START:
            self.__exit__()
            self._began = time.monotonic()
            self._bar = bar(None, event.step_key, self._partitions)
        elif event.event_type in _PROGRESS and self._bar is not None:
            self._bar.update()
        elif event.event_type in (Event.STEP_SUCCESS, Event.STEP_FAILURE):
            self.__exit__()
            seconds = time.monotonic() - self._began
            done = event.event_type == Event.STEP_SUCCESS
            mark = "[green]✓[/green]" if done else "[red]✗[/red]"
            what = f"{self._partitions:,} sessions" if self._partitions > 1 else ""
            self._console.print(f"  {mark} {event.step_key:<20} {what:>15} {seconds:6.1f} s")


def _failure(result: dg.ExecuteInProcessResult) -> StockAssetsError:
    """Return the message of the first blocking check or step that failed."""
    in_the_ui = f"See run {result.run_id} in the Dagster UI: stock-assets up"
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            name = f"{check.asset_key.to_user_string()}: the check {check.check_name}"
            problem = f"{name} failed: {_described(check)}"
            return RunFailedError(problem, in_the_ui, result.run_id, "")
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is None:
            continue
        if error.cls_name == "DagsterExecutionInterruptedError":
            problem, remedy = (
                f"{event.step_key} was interrupted",
                "Run the command again to continue",
            )
            return RunFailedError(problem, remedy, result.run_id, error.to_string())
        kind, _, message = error.message.strip().partition(": ")
        if kind.endswith("StockAssetsError"):
            problem, _, remedy = message.rpartition(". ") if ". " in message else (message, "", "")
            return RunFailedError(problem, remedy, result.run_id, error.to_string())
        return RunFailedError(
            f"{event.step_key} failed: {error.message.strip().splitlines()[0]}",
            f"{in_the_ui}; or see where: stock-assets --traceback …",
            result.run_id,
            error.to_string(),
        )
    return RunFailedError(
        f"run {result.run_id} failed before its first step",
        in_the_ui,
        result.run_id,
        "",
    )


def _described(check: dg.AssetCheckEvaluation) -> str:
    """Return the message of a failed check, with its first row if it has any."""
    rows = check.metadata.get("rows")
    if not isinstance(rows, dg.TableMetadataValue) or not rows.records:
        return str(check.description)
    first = ", ".join(f"{name} {value}" for name, value in rows.records[0].data.items())
    return f"{check.description}; the first: {first}"


class RunFailedError(StockAssetsError):
    """A run failed; ``details`` is the traceback of the step, shown with --traceback."""

    def __init__(self, problem: str, remedy: str, run_id: str, details: str) -> None:
        super().__init__(problem, remedy)
        self.run_id = run_id
        self.details = details
