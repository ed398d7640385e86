"""A demo killed at any moment, and run again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from stock_assets_tests.cli.conftest import Demo, Installation, wait_until

pytestmark = pytest.mark.slow

MOMENTS = {
    "while prices are ingested": "SELECT FROM raw_stock_data LIMIT 1",
    "while a candidate is trained": "SELECT FROM optimization_results",
    "while sessions are replayed": "SELECT FROM predictions LIMIT 1",
}
"""When to kill, and the row whose appearance tells that the moment has come."""


@pytest.mark.timeout(1800)  # four demos, on machines of any speed
def test_a_demo_killed_again_and_again_ends_as_one_that_was_not(new_home: Installation, demo: Demo):
    for moment, sign in MOMENTS.items():
        _kill_demo_when(new_home, lambda sign=sign: new_home.has(sign), moment)
        _require_every_array_file(new_home)

    new_home.succeed("demo")

    new_home.succeed("db", "start")
    assert new_home.lasting_rows() == demo.lasting_rows
    assert new_home.alias() == 1
    assert new_home.versions() == [1]
    _require_every_array_file(new_home)
    assert list(new_home.home.rglob("*.partial")) == []
    # One dataset, ingested, trained on and replayed once each; every killed run ended as failed.
    assert new_home.value("SELECT count(*) FROM dynamic_partitions", "dagster") == 1
    assert sorted(new_home.run_statuses()) == ["FAILURE"] * len(MOMENTS) + ["SUCCESS"] * 3
    trials = "SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId'"
    retrainings = f"SELECT status FROM runs WHERE run_uuid NOT IN ({trials})"
    assert sorted(new_home.rows(retrainings, "mlflow")) == [
        ("FAILED",),
        ("FINISHED",),
    ]


def test_a_run_that_is_interrupted_says_how_to_go_on(demoed: Installation):
    before = demoed.tables()

    _require_interruption(demoed, signal.SIGINT)

    assert demoed.run_statuses()[-1] == "FAILURE"
    assert demoed.tables() == before


def test_a_run_that_is_terminated_stops_its_database(new_home: Installation):
    _require_interruption(new_home, signal.SIGTERM)

    assert new_home.processes() == []


def test_the_database_that_a_killed_command_left_is_stopped_by_the_next(new_home: Installation):
    _kill_demo_when(new_home, lambda: new_home.has("SELECT FROM alembic_version"), "at the start")

    new_home.succeed("status")

    assert new_home.processes() == []


def test_a_demo_killed_while_the_database_is_made(new_home: Installation):
    _kill_demo_when(new_home, lambda: list(new_home.home.glob("*/PG_VERSION")), "at first files")

    assert "none stored" in new_home.succeed("status")


def _require_interruption(installation: Installation, number: signal.Signals) -> None:
    """Signal a command within the step that it runs; it says what happened and what to do."""
    span = ("--from", "2008-01-02", "--to", "2013-03-01")
    command = installation.begin("backfill", "raw_prices", *span)
    started = "SELECT FROM runs JOIN event_logs USING (run_id) WHERE status = 'STARTED'"
    step = f"{started} AND dagster_event_type = 'STEP_START'"
    wait_until(lambda: installation.has(step, "dagster"), "the step begins")
    command.send_signal(number)
    assert command.wait(60) == 1
    told = "error: raw_prices was interrupted. Run the command again to go on."
    assert installation.output.splitlines()[-1] == told


def _kill_demo_when(
    installation: Installation, has_come: Callable[[], object], moment: str
) -> None:
    demo = installation.begin("demo")
    wait_until(lambda: has_come() or demo.poll() is not None, moment)
    os.killpg(demo.pid, signal.SIGKILL)
    assert demo.wait() == -signal.SIGKILL, f"{moment}: {installation.output}"


def _require_every_array_file(installation: Installation) -> None:
    """Require every file that a table names; a file has such a name only when it is whole."""
    for (location,) in installation.rows("SELECT location FROM processed_feature_data"):
        assert (installation.home / "arrays" / location).stat().st_size > 0
