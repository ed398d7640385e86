"""`stock-assets up`: every service in the foreground, a sensor that retrains, none left behind."""

from __future__ import annotations

import signal
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import psutil
import pytest
import yaml

from stock_assets.cli.platform import Platform
from stock_assets.cli.services import Service, _require_alive, _running
from stock_assets.core.errors import StockAssetsError
from stock_assets_tests.cli.conftest import Demo, Installation, wait_until
from stock_assets_tests.cli.services import Services, begin_up

ASSETS = {
    *("raw_prices", "processed_features", "scalers", "scaled_features", "tuned_params"),
    *("candidate_model", "promotion", "production_model", "predictions", "performance_log"),
}
SCORED = 200
BREACHED = {
    "limit_sessions": SCORED // 5 + 1,
    "cooldown_sessions": 20,
    "thresholds": {"relative_mae_max": 0.01},
}
"""A hard limit that every model breaks, once one session more than the demo's is scored."""

LAST = date(2013, 3, 1)


@pytest.fixture(scope="module")
def strict(demo: Demo) -> Iterator[Installation]:
    """The demo's installation with thresholds that the next scored session breaks."""
    file = demo.installation.project / "params.yaml"
    before = file.read_text()
    file.write_text(yaml.safe_dump(yaml.safe_load(before) | {"monitoring": BREACHED}))
    yield demo.installation
    file.write_text(before)
    demo.installation.run("db", "start")
    demo.installation.succeed("model", "promote", "1", "--why", "other tests forecast with it")


@pytest.fixture(scope="module")
def services(strict: Installation) -> Iterator[Services]:
    """Everything, started once for the tests of this module; the last of them stops it.

    The breach is scored before, so that the sensor finds it at its first evaluation.
    """
    _score(strict)
    with begin_up(strict) as services:
        services.wait_until_ready()
        assert strict.value("SELECT count(*) FROM model_performance_log") == SCORED + 5
        yield services


def test_every_service_answers_at_the_address_that_is_printed(services: Services):
    for address in (services.dashboard, services.dagster, services.mlflow):
        assert address in services.installation.output
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.status == 200


def test_dagster_serves_the_whole_graph(services: Services):
    found = services.query_dagster("{ assetNodes { assetKey { path } } }")
    assert {node["assetKey"]["path"][-1] for node in found["assetNodes"]} == ASSETS


def test_schedule_and_sensors_run_and_so_do_their_daemons(services: Services):
    query = """{ workspaceOrError { ... on Workspace { locationEntries {
      locationOrLoadError { ... on RepositoryLocation { repositories {
        schedules { name scheduleState { status } }
        sensors { name sensorState { status } }
      } } } } } } }"""
    (location,) = services.query_dagster(query)["workspaceOrError"]["locationEntries"]
    (repository,) = location["locationOrLoadError"]["repositories"]
    states = {
        found["name"]: found[kind]["status"]
        for plural, kind in (("schedules", "scheduleState"), ("sensors", "sensorState"))
        for found in repository[plural]
    }
    assert states.items() >= {
        ("daily_after_close", "RUNNING"),
        ("retrain_on_breach", "RUNNING"),
        ("score_when_forecasting_failed", "RUNNING"),
    }
    wait_until(lambda: _are_healthy(services), "healthy daemons")


def test_a_breach_launches_one_retraining(services: Services):
    strict = services.installation
    (run,) = wait_until(lambda: _retrainings(strict), "the sensor launches a run")
    ticks = _ticks(strict)
    _score(strict)  # an event that wakes the sensor again
    wait_until(lambda: _status(strict, run) in ("SUCCESS", "FAILURE"), "the run ends")
    assert _status(strict, run) == "SUCCESS"
    wait_until(lambda: _ticks(strict) > ticks, "the sensor wakes again")
    assert _retrainings(strict) == [run]

    (dataset,) = (name for name in _datasets(strict) if name.startswith(f"{LAST:%Y%m%d}_"))
    assert strict.rows(
        "SELECT session, dataset_run_id FROM retraining_decisions WHERE retrain"
    ) == [(LAST, dataset)]
    ((candidate, rival, promoted),) = strict.rows(
        "SELECT candidate_version, production_version, promoted FROM model_promotions "
        f"WHERE dataset_run_id = '{dataset}'"
    )
    # The version that broke the limit has stepped down to persistence, which is no version to meet.
    assert (candidate, rival) == (max(strict.versions()), None)
    changes = strict.rows("SELECT model_version, cause FROM production_history ORDER BY id")
    assert changes[1:2] == [(0, "step_down")]
    assert strict.alias() == (candidate if promoted else None)


def test_an_interrupt_stops_everything(services: Services):
    services.stop(signal.SIGINT)


@pytest.mark.long
def test_an_interrupt_while_starting_stops_everything(demoed: Installation):
    with begin_up(demoed) as services:
        wait_until(
            lambda: any("mlflow server" in _command(process) for process in demoed.processes()),
            "the last service begins",
        )

        services.stop(signal.SIGTERM)


@pytest.mark.long
def test_a_service_that_ends_ends_the_others(demoed: Installation):
    with begin_up(demoed) as services:
        services.wait_until_ready()
        (mlflow,) = (
            process
            for process in psutil.Process(services.process.pid).children()
            if "mlflow server" in _command(process)
        )

        mlflow.kill()

        assert services.process.wait() == 1
        line = demoed.output.splitlines()[-1]
        assert "MLflow" in line
        assert str(demoed.home / "logs" / "mlflow.log") in line
        services.require_nothing_left()


@pytest.mark.long
def test_a_service_that_has_ended_is_an_error_and_the_others_are_stopped(
    platform: Platform, tmp_path: Path
):
    here = replace(platform, locations=platform.locations.model_copy(update={"project": tmp_path}))
    programs = {"Lasting": "import time; time.sleep(3600)", "Ending": "raise SystemExit(9)"}
    services = [
        Service(name, [sys.executable, "-c", code], {}, "", "", tmp_path / f"{name}.log")
        for name, code in programs.items()
    ]
    with (
        pytest.raises(StockAssetsError, match=r"Ending .* 9.*Ending\.log"),
        _running(services, here) as processes,
    ):
        processes[1].wait()
        _require_alive(services, processes)
    assert processes[0].poll() is not None


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _are_healthy(services: Services) -> bool:
    query = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
    found = services.query_dagster(query)["instance"]["daemonHealth"]["allDaemonStatuses"]
    required = [daemon for daemon in found if daemon["required"]]
    assert {"SENSOR", "SCHEDULER"} <= {daemon["daemonType"] for daemon in required}
    return all(daemon["healthy"] for daemon in required)


def _score(installation: Installation) -> None:
    span = ("--from", LAST.isoformat(), "--to", LAST.isoformat())
    installation.succeed("backfill", "performance_log", *span)


def _retrainings(installation: Installation) -> list[str]:
    """Runs that the sensor launched."""
    tagged = "SELECT run_id FROM run_tags WHERE key = 'stock_assets/breach_session'"
    return [row[0] for row in installation.rows(tagged, "dagster")]


def _status(installation: Installation, run: str) -> str:
    found: str = installation.value(f"SELECT status FROM runs WHERE run_id = '{run}'", "dagster")
    return found


def _ticks(installation: Installation) -> int:
    """Evaluations of the sensor that an event of the log brought about."""
    found: int = installation.value(
        "SELECT count(*) FROM job_ticks WHERE tick_body LIKE '%\"retrain_on_breach\"%' "
        "AND status IN ('SUCCESS', 'SKIPPED') AND tick_body NOT LIKE '%No new materialization%'",
        "dagster",
    )
    return found


def _datasets(installation: Installation) -> set[str]:
    """Partitions of the datasets."""
    return {
        row[0] for row in installation.rows("SELECT partition FROM dynamic_partitions", "dagster")
    }
