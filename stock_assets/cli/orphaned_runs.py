"""Runs whose command was killed; Dagster and MLflow would show them as running forever."""

from __future__ import annotations

import os
import socket

import dagster as dg
import psutil

from stock_assets.cli.platform import Platform
from stock_assets.registry import Registry

_PROCESS_TAG = "stock_assets/process"
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def process_tag() -> dict[str, str]:
    """Tag the runs of this process with its host and id."""
    return {_PROCESS_TAG: f"{socket.gethostname()}/{os.getpid()}"}


def end_orphaned_runs(platform: Platform) -> None:
    """Mark the runs of killed commands of this host as failed, in Dagster and MLflow.

    A retraining that never ends would block the queue: one retraining runs at a time.
    """
    for run in platform.instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        host, _, pid = run.tags.get(_PROCESS_TAG, "").partition("/")
        if host == socket.gethostname() and not psutil.pid_exists(int(pid)):
            platform.instance.report_run_failed(run, "The command that ran it was killed")
            _end_mlflow_run(platform, run)


def _end_mlflow_run(platform: Platform, run: dg.DagsterRun) -> None:
    if run.job_name != "retraining":
        return
    client = Registry(platform.params.tracking).client()
    experiment = client.get_experiment_by_name(platform.params.tracking.experiment)
    if experiment is None:
        return
    opened = f"tags.dagster_run_id = '{run.run_id}' AND attributes.status = 'RUNNING'"
    for found in client.search_runs([experiment.experiment_id], opened):
        client.set_terminated(found.info.run_id, "FAILED")
