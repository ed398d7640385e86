"""`stock-assets up`: every service in the foreground, and none left behind."""

from __future__ import annotations

import signal
import urllib.request

import psutil
import pytest

from stock_assets_tests.cli.conftest import Installation, wait_until
from stock_assets_tests.cli.services import Services, begin_up

pytestmark = pytest.mark.slow

ASSETS = {
    *("raw_prices", "processed_features", "scalers", "scaled_features", "tuned_params"),
    *("candidate_model", "promotion", "production_model", "predictions", "performance_log"),
}


def test_everything_runs_until_it_is_interrupted(demoed: Installation):
    with begin_up(demoed) as services:
        services.wait_until_ready()

        for address in (services.dashboard, services.dagster, services.mlflow):
            assert address in demoed.output
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert answer.status == 200
        _require_the_whole_graph(services)
        _require_automation(services)

        services.stop(signal.SIGINT)


def test_it_stops_while_it_is_still_starting(demoed: Installation):
    with begin_up(demoed) as services:
        wait_until(
            lambda: any("mlflow server" in _command(process) for process in demoed.processes()),
            "the last service begins",
        )

        services.stop(signal.SIGTERM)


def test_a_service_that_ends_ends_the_others(demoed: Installation):
    with begin_up(demoed) as services:
        services.wait_until_ready()
        (mlflow,) = (
            process
            for process in psutil.Process(services.process.pid).children()
            if "mlflow server" in _command(process)
        )

        mlflow.kill()

        assert services.process.wait(60) == 1
        log = demoed.home / "logs" / "mlflow.log"
        told = demoed.output.splitlines()[-1]
        assert told == f"error: MLflow ended with status -9. Read {log}."
        services.require_nothing_left()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _require_the_whole_graph(services: Services) -> None:
    told = services.ask_dagster("{ assetNodes { assetKey { path } jobNames } }")
    assert {node["assetKey"]["path"][-1] for node in told["assetNodes"]} == ASSETS


def _require_automation(services: Services) -> None:
    """The schedule and the sensors run, and so do the daemons that they need."""
    query = """{ workspaceOrError { ... on Workspace { locationEntries {
      locationOrLoadError { ... on RepositoryLocation { repositories {
        schedules { name scheduleState { status } }
        sensors { name sensorState { status } }
      } } } } } } }"""
    (location,) = services.ask_dagster(query)["workspaceOrError"]["locationEntries"]
    (repository,) = location["locationOrLoadError"]["repositories"]
    states = {
        made["name"]: made[kind]["status"]
        for plural, kind in (("schedules", "scheduleState"), ("sensors", "sensorState"))
        for made in repository[plural]
    }
    assert states.items() >= {
        ("daily_after_close", "RUNNING"),
        ("retrain_on_breach", "RUNNING"),
        ("score_when_forecasting_failed", "RUNNING"),
    }
    wait_until(lambda: _healthy(services), "healthy daemons")


def _healthy(services: Services) -> bool:
    query = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
    told = services.ask_dagster(query)["instance"]["daemonHealth"]["allDaemonStatuses"]
    required = [daemon for daemon in told if daemon["required"]]
    assert {"SENSOR", "SCHEDULER"} <= {daemon["daemonType"] for daemon in required}
    return all(daemon["healthy"] for daemon in required)
