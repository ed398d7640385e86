"""The first day: the loop runs before any training, with persistence as version 0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from bs4 import BeautifulSoup
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from stock_assets.config import load_params
from stock_assets.evaluation.production_rule import PERSISTENCE_NAME, PERSISTENCE_VERSION
from stock_assets.models.persistence import Persistence
from stock_assets.service.app import create_app
from stock_assets_tests.cli.conftest import Command, Installation, copy_of, new_installation
from stock_assets_tests.prepared import SECTIONS
from stock_assets_tests.service.conftest import send, state_for

AS_OF = "2013-01-10"
PAGES = ("/", "/performance", "/models", "/operations", "/ticker/IBM")


@pytest.fixture(scope="module")
def first_day() -> Iterator[Installation]:
    """An installation with prices and nothing trained, which has forecast and scored eight days."""
    with new_installation(bare=True, **SECTIONS["ingested"]) as created:
        copy_of("ingested", created)
        days = ("--from", "2013-01-02", "--to", "2013-01-11")
        created.succeed("backfill", "predictions", "performance_log", *days)
        yield created


@pytest.fixture(scope="module")
def app(first_day: Installation) -> Iterator[FastAPI]:
    engine = create_engine(first_day.address("stock_assets"), poolclass=NullPool)
    params = load_params(first_day.project / "params.yaml")
    yield create_app(replace(state_for(engine), params=params))
    engine.dispose()


def test_every_forecast_is_of_persistence(first_day: Installation) -> None:
    counted = first_day.rows(
        "SELECT model_version, dataset_run_id, mlflow_run_id, count(*) FROM predictions "
        "GROUP BY 1, 2, 3"
    )
    assert counted == [(PERSISTENCE_VERSION, None, None, 8 * 5)]
    assert first_day.value("SELECT count(*) FROM model_performance_log") == 7 * 5


def test_the_files_say_so(first_day: Installation) -> None:
    file = json.loads((first_day.home / "forecasts" / "latest_predictions.json").read_text())
    assert (file["model"], file["model_mlflow_run_id"]) == (PERSISTENCE_NAME, None)


def test_status_and_list_name_it_with_its_scores(first_day: Installation, command: Command) -> None:
    found = json.loads(command("status", "--json", at=first_day).stdout)
    digest = Persistence.of(load_params(first_day.project / "params.yaml")).digest
    assert (found["production"]["version"], found["production"]["digest"]) == (0, digest)
    assert found["performance"]["model"]["relative_mae"] == 1.0
    assert PERSISTENCE_NAME in command("status", at=first_day).stdout
    (row,) = json.loads(command("model", "list", "--json", at=first_day).stdout)
    assert (row["model_version"], row["in_production"]) == (PERSISTENCE_VERSION, True)
    assert row["scores"]["forecasts"] == 7 * 5
    assert "any session" in command("model", "show", "0", at=first_day).stdout


def test_it_is_in_force_already(first_day: Installation, command: Command) -> None:
    refused = command("model", "promote", "0", "--why", "x", at=first_day)
    assert f"{PERSISTENCE_NAME} is in force already" in refused.error


def test_its_forecasts_are_proved_and_the_record_holds(
    first_day: Installation, command: Command
) -> None:
    proved = json.loads(command("prove", "--sample", "10", "--json", at=first_day).stdout)
    assert proved["outcomes"] == {"holds": 10}
    assert command("verify", at=first_day).returncode == 0


@pytest.mark.parametrize("address", PAGES)
def test_every_page_says_so(app: FastAPI, address: str) -> None:
    page = BeautifulSoup(send(app, address).text, "lxml")
    (notice,) = page.select("#persistence")
    assert "Persistence (version 0) is in force" in notice.text
    assert "stock-assets retrain" in notice.text


def test_the_api_shows_its_rule_in_place_of_a_dataset(app: FastAPI) -> None:
    found = send(app, f"/api/v1/lineage/forecast/{AS_OF}/IBM").json()
    assert found["forecast"]["model_version"] == PERSISTENCE_VERSION
    assert [found[name] for name in ("model", "decision", "dataset", "training")] == [None] * 4
    assert found["rule"]["scale"] == "combined"
    assert found["window"]["last_session"] == AS_OF
    assert found["window"]["sessions"] == 126 + 126 + found["rule"]["horizon"]
    assert send(app, "/api/v1/health").json()["model_version"] == PERSISTENCE_VERSION
    scores = send(app, "/api/v1/performance?limit=2").json()
    assert {row["dataset_run_id"] for row in scores["items"]} == {None}
    assert scores["items"][0]["relative_mae"] == 1.0
    later = send(app, f"/api/v1/performance?limit=2&cursor={scores['next']}").json()
    assert later["items"][0]["session"] < scores["items"][-1]["session"]
    tickers = send(app, "/api/v1/performance/tickers?limit=3").json()
    rest = send(app, f"/api/v1/performance/tickers?cursor={tickers['next']}").json()
    assert len(tickers["items"] + rest["items"]) == 5
