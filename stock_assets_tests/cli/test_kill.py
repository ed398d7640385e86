"""A demo killed at any moment, and run again."""

from __future__ import annotations

import os
import signal
import time

import pytest

from stock_assets_tests.cli.conftest import Demo, Installation, wait_until

pytestmark = pytest.mark.slow

MOMENTS = {
    "while prices are ingested": "SELECT FROM raw_stock_data LIMIT 1",
    "while a dataset is made": "SELECT FROM processed_feature_data",
    "while a candidate is trained": "SELECT FROM optimization_results",
    "while sessions are replayed": "SELECT FROM predictions LIMIT 1",
}
"""When to kill, and the row whose appearance tells that the moment has come."""


def test_a_demo_killed_again_and_again_ends_as_one_that_was_not(new_home: Installation, demo: Demo):
    for moment, sign in MOMENTS.items():
        _kill_demo_when(new_home, sign, moment)
        _require_every_array_file(new_home)

    new_home.succeed("demo")

    assert new_home.processes() == []  # also the database, which the killed demos left running
    new_home.succeed("db", "start")
    assert new_home.lasting_rows() == demo.lasting_rows
    assert new_home.alias() == 1
    assert new_home.versions() == [1]
    _require_every_array_file(new_home)
    assert [path.name for path in new_home.home.rglob("*.partial")] == []
    assert set(new_home.run_statuses()) == {"SUCCESS", "FAILURE"}
    assert new_home.run_statuses().count("FAILURE") == len(MOMENTS)
    assert set(new_home.rows("SELECT status FROM runs", "mlflow")) == {("FAILED",), ("FINISHED",)}


def test_a_demo_killed_while_the_database_is_made(new_home: Installation):
    new = new_home.home / "postgres"
    demo = new_home.begin("demo")
    wait_until((new / "PG_VERSION").exists, 60, "the first files of the database")
    _kill(demo.pid)
    demo.wait()

    assert "none stored" in new_home.succeed("status")


def _kill_demo_when(installation: Installation, sign: str, moment: str) -> None:
    demo = installation.begin("demo")
    wait_until(lambda: installation.has(sign) or demo.poll() is not None, 120, f"{moment}: {sign}")
    _kill(demo.pid)
    assert demo.wait() == -signal.SIGKILL, f"{moment}: {installation.output}"


def _kill(group: int) -> None:
    os.killpg(group, signal.SIGKILL)
    time.sleep(0.1)


def _require_every_array_file(installation: Installation) -> None:
    """Every file that a table names is there, and whole files alone have such a name."""
    for table in ("processed_feature_data", "scaled_feature_sets"):
        for digest, location in installation.rows(f"SELECT digest, location FROM {table}"):
            assert (installation.home / "arrays" / location).stat().st_size > 0, (table, digest)
