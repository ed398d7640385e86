"""Commands that are killed, terminated or interrupted, and what the next command finds."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from stock_assets_tests.cli.conftest import (
    Demo,
    Installation,
    new_installation,
    wait_until,
)
from stock_assets_tests.prepared import copy_home, prepared

INGESTING = "SELECT FROM raw_stock_data LIMIT 1"
TRAINING = "SELECT FROM optimization_results"
REPLAYING = "SELECT FROM predictions LIMIT 1"
"""Queries that find a row as soon as a demo is at that stage."""


@pytest.fixture
def ingested() -> Iterator[Installation]:
    """An installation that holds the prices and no model."""
    with new_installation(bare=True) as created:
        copy_home(prepared("ingested"), created.project)
        yield created


def test_a_demo_killed_in_training_has_the_same_result(ingested: Installation, demo: Demo):
    _kill_demo_when(ingested, lambda: ingested.has(TRAINING), TRAINING)
    assert ingested.processes() != []  # the database that nothing has stopped

    ingested.succeed("demo")

    wait_until(lambda: not ingested.processes(), "no process is left")
    ingested.succeed("db", "start")
    _require_the_result_of(demo, ingested)
    # Prices and replay have one run each; the killed retraining is on record as failed.
    assert sorted(ingested.run_statuses()) == ["FAILURE", "SUCCESS", "SUCCESS", "SUCCESS"]
    assert _retrainings(ingested) == ["FAILED", "FINISHED"]


@pytest.mark.long
def test_a_demo_killed_repeatedly_has_the_same_result(bare_home: Installation, demo: Demo):
    _kill_demo_when(bare_home, lambda: list(bare_home.home.glob("*/PG_VERSION")), "first files")
    for query in (INGESTING, TRAINING, REPLAYING):
        _kill_demo_when(bare_home, lambda query=query: bare_home.has(query), query)
        _require_every_array_file(bare_home)

    bare_home.succeed("demo")

    bare_home.succeed("db", "start")
    _require_the_result_of(demo, bare_home)
    assert sorted(bare_home.run_statuses()) == ["FAILURE"] * 3 + ["SUCCESS"] * 3
    assert _retrainings(bare_home) == ["FAILED", "FINISHED"]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_an_interrupted_run_shows_how_to_continue_and_stops_its_database(
    new_home: Installation, number: signal.Signals
):
    span = ("--from", "2008-01-02", "--to", "2013-03-01")
    command = new_home.begin("backfill", "raw_prices", *span)
    step = (
        "SELECT FROM runs JOIN event_logs USING (run_id) "
        "WHERE status = 'STARTED' AND dagster_event_type = 'STEP_START'"
    )
    wait_until(lambda: new_home.has(step, "dagster"), "the step begins")

    command.send_signal(number)

    assert command.wait() == 1
    line = new_home.output.splitlines()[-1]
    assert line.startswith("error: raw_prices was interrupted")
    assert "again" in line
    wait_until(lambda: not new_home.processes(), "no process is left")
    new_home.succeed("db", "start")
    assert new_home.run_statuses() == ["FAILURE"]
    assert new_home.value("SELECT count(*) FROM raw_stock_data") == 0


def _kill_demo_when(installation: Installation, has_come: Callable[[], object], what: str) -> None:
    demo = installation.begin("demo")
    wait_until(lambda: has_come() or demo.poll() is not None, what)
    os.killpg(demo.pid, signal.SIGKILL)
    assert demo.wait() == -signal.SIGKILL, f"{what}: {installation.output}"


def _require_the_result_of(demo: Demo, installation: Installation) -> None:
    assert installation.lasting_rows() == demo.lasting_rows
    assert installation.alias() == 1
    assert installation.versions() == [1]
    assert installation.value("SELECT count(*) FROM dynamic_partitions", "dagster") == 1
    _require_every_array_file(installation)
    assert list(installation.home.rglob("*.partial")) == []


def _require_every_array_file(installation: Installation) -> None:
    """Require every file that a table names; a file has such a name only when it is whole."""
    if not installation.has("SELECT FROM processed_feature_data"):
        return
    for (location,) in installation.rows("SELECT location FROM processed_feature_data"):
        assert (installation.home / "arrays" / location).stat().st_size > 0


def _retrainings(installation: Installation) -> list[str]:
    """Statuses of the MLflow runs of whole retrainings."""
    trials = "SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId'"
    found = installation.rows(f"SELECT status FROM runs WHERE run_uuid NOT IN ({trials})", "mlflow")
    return sorted(row[0] for row in found)
