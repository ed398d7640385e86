"""Versions that were put in force without a decision, and those of another registered model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.evaluation.production_rule import Cause
from stock_assets.evaluation.scoring import score_due
from stock_assets.reporting.score_figures import Mark
from stock_assets.service.app import create_app
from stock_assets.service.app_state import AppState
from stock_assets.service.pages.model_status import find_model_status, find_takeovers
from stock_assets.service.pages.models import models
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import save_promotion
from stock_assets.storage.forecasts import save_performance, save_predictions
from stock_assets.storage.production import NewChange, record_change
from stock_assets_tests.service.conftest import send, state_for
from stock_assets_tests.service.pages.conftest import parse, table, text
from stock_assets_tests.storage.examples import (
    DATASET,
    DAYS,
    MODEL,
    PANEL,
    PRODUCTION,
    PROMOTION,
    bars,
    forecasts,
    put_in_force,
)

OTHER = "20130131_120000"
CHOSEN = replace(PRODUCTION, version=2, digest="a" * 64)
RENAMED = replace(PRODUCTION, dataset_run_id=OTHER, as_of=date(2013, 1, 31), digest="b" * 64)


@pytest.fixture
def state(engine: Engine) -> AppState:
    """A winner, replaced by a person; both forecast and were scored, the person's choice last."""
    save_panel(engine, PANEL)
    save_promotion(engine, PROMOTION)
    put_in_force(engine)
    record_change(engine, MODEL, NewChange(CHOSEN, Cause.PERSON, "a trial", "ann"), None)
    for version, days in ((1, DAYS[:2]), (2, DAYS[2:3])):
        made = forecasts(days, version=version)
        save_predictions(engine, made, days, version)
        targets = [day.date() for day in made["target_session"].unique()]
        save_performance(engine, score_due(made, bars()), targets, "run")
    return state_for(engine)


def named(state: AppState, model_name: str) -> AppState:
    """Return the state of a service that was started with another registered model."""
    return replace(state, params=Params.model_validate({"tracking": {"model_name": model_name}}))


def test_takeovers_are_those_of_the_history_of_production(state: AppState) -> None:
    record_change(state.engine, "Renamed", NewChange(RENAMED, Cause.PROMOTION, "won"), None)
    today = datetime.now(UTC).date()
    assert find_takeovers(state) == [Mark(today, "v2"), Mark(PRODUCTION.as_of, "v1")]
    assert find_takeovers(named(state, "Renamed")) == [Mark(RENAMED.as_of, "v1")]


def test_a_version_in_force_without_a_decision_is_shown_with_its_scores(state: AppState) -> None:
    chosen, winner = table(parse(models(state)), "#versions-table")
    assert chosen[:3] == ["Version 2", "in production", DATASET]
    assert winner[1] == "promoted"
    assert (chosen[5], winner[5]) == ("2", "4")
    client = create_app(state)
    detail = send(client, "/api/v1/models/2").json()
    assert (detail["decision"], detail["promoted"], detail["in_production"]) == (None, None, True)
    assert detail["scored"]["forecasts"] == 2
    listed = send(client, "/api/v1/models").json()["items"]
    assert [row["model_version"] for row in listed] == [2, 1]


def test_equal_numbers_of_two_registered_models_are_told_apart(state: AppState) -> None:
    """Of an installation whose registered model was renamed before numbers were skipped."""
    record_change(state.engine, "Renamed", NewChange(RENAMED, Cause.PROMOTION, "won"), None)
    for name, dataset in ((MODEL, DATASET), ("Renamed", OTHER)):
        own = named(state, name)
        version = 2 if name == MODEL else 1
        status = find_model_status(own)
        assert status.production.change is not None
        in_force = status.version, status.production.change["dataset_run_id"]
        assert in_force == (version, dataset)
        assert status.scores_are_of_another_version is (name == "Renamed")
        page = parse(models(own))
        assert text(page, ".lead").startswith(f"Versions of {name}. Version {version} is in")
        assert {row[2] for row in table(page, "#versions-table")} == {dataset}
        app = create_app(own)
        changes = send(app, "/api/v1/production").json()["items"]
        current = [change for change in changes if change["in_production"]]
        assert [change["model_name"] for change in current] == [name]
        listed = send(app, "/api/v1/models").json()["items"]
        assert [row["dataset_run_id"] for row in listed if row["in_production"]] == [dataset]
        assert send(app, "/api/v1/models/1").json()["dataset_run_id"] == dataset
    nobody = named(state, "Nobody")
    assert find_model_status(nobody).production.is_persistence
    changes = send(create_app(nobody), "/api/v1/production").json()["items"]
    assert [change["in_production"] for change in changes] == [False] * 3
