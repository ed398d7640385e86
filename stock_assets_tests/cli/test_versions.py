"""``stock-assets model``: versions are listed and compared, and all places name one production.

One installation goes through a retraining of the past, an alias moved by hand, a rollback and a
deleted version and a new name of the registered model. After each, status, dashboard, API, Dagster
and MLflow must agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml
from bs4 import BeautifulSoup
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets.config import load_params
from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION
from stock_assets.service.app import create_app
from stock_assets_tests.cli.conftest import Installation, copy_of, new_installation
from stock_assets_tests.service.conftest import send, state_for

pytestmark = pytest.mark.long

PAST = "2012-11-30"
FOREIGN = 50
"""Number of a version that was registered in another way."""


@dataclass(frozen=True)
class View:
    """The version in production by each place that names it, and the newest change."""

    named: dict[str, int]
    as_of: str | None
    newest: dict[str, Any]
    changes: int


def view(installation: Installation) -> View:
    """Query every place; status first, which finds changes made in MLflow."""
    production = json.loads(installation.succeed("status", "--json"))["production"]
    engine = create_engine(installation.address("stock_assets"), poolclass=NullPool)
    params = load_params(installation.project / "params.yaml")
    name = params.tracking.model_name
    app = create_app(replace(state_for(engine), params=params))
    changes = send(app, "/api/v1/production").json()["items"]
    listed = send(app, "/api/v1/models").json()["items"]
    page = BeautifulSoup(send(app, "/models").text, "lxml")
    rows = page.select("#production-table tbody tr")
    now = [row.th.text for row in rows if row.select("td")[1].text == "now"]
    events = [
        event
        for event in timeline(installation)
        if event["model"] == name and "until_session" not in event  # of winners of past sessions
    ]
    own = [change for change in changes if change["model_name"] == name]
    assert len(timeline(installation)) == len(changes)
    assert len(rows) == len(own)
    in_api = [one["model_version"] for one in changes if one["in_production"]]
    return View(
        {
            "status": production["version"],
            "api": in_api[0] if in_api else 0,
            "models": next((one["model_version"] for one in listed if one["in_production"]), 0),
            "page": int(now[0].split()[1].split("r")[0]) if not page.select("#persistence") else 0,
            "dagster": (events[0].get("model_version") if events else None) or 0,
            "mlflow": installation.alias(name) or 0,
        },
        production["as_of"],
        own[0] if own else {},
        len(changes),
    )


def timeline(installation: Installation) -> list[dict[str, Any]]:
    """Metadata of every materialization of ``production_model``, newest first."""
    from dagster import EventLogEntry
    from dagster._serdes import deserialize_value

    stored = installation.rows(
        "SELECT event FROM event_logs WHERE asset_key = '[\"production_model\"]' "
        "AND dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id DESC",
        "dagster",
    )
    found = [deserialize_value(event, EventLogEntry).asset_materialization for (event,) in stored]
    return [
        {name: value.value for name, value in one.metadata.items()}
        for one in found
        if one is not None
    ]


def in_mlflow(installation: Installation, *statements: str) -> None:
    engine = create_engine(installation.address("mlflow"), poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@dataclass(frozen=True)
class Story:
    """The views after each change."""

    installation: Installation
    first: View
    retrained: View
    past_version: int
    past_model: int
    moved: View
    rolled_back: View
    promoted: View
    deleted: View
    predicted: str
    restored: View
    listed: list[dict[str, Any]]
    shown: tuple[str, str]
    renamed: View
    trained: View


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with new_installation(bare=True) as own:
        copy_of("loop", own)
        first = view(own)
        (production,) = set(first.named.values())
        own.succeed("retrain", "--as-of", PAST)
        retrained = view(own)
        past = max(own.versions())
        own.succeed("predict", "--date", "2012-12-03")
        past_model = own.value(
            "SELECT model_version FROM predictions WHERE as_of_session = '2012-12-03' LIMIT 1"
        )
        other = next(one for one in own.versions() if one not in (past, production))
        in_mlflow(own, f"UPDATE registered_model_aliases SET version = {other}")
        moved = view(own)
        own.succeed("model", "rollback", "--why", "moved by mistake")
        rolled_back = view(own)
        own.succeed("model", "promote", str(past), "--why", "a trial")
        promoted = view(own)
        in_mlflow(
            own,
            f"DELETE FROM registered_model_aliases WHERE version = {past}",
            f"UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = {past}",
        )
        deleted, predicted = view(own), own.succeed("predict")
        own.succeed("model", "rollback")
        restored = view(own)
        in_mlflow(
            own,
            "INSERT INTO model_versions (workspace, name, version, current_stage, status, source) "
            f"SELECT workspace, name, {FOREIGN}, 'None', 'READY', 'file:///elsewhere' "
            f"FROM model_versions WHERE version = {production}",
        )
        listed = json.loads(own.succeed("model", "list", "--json"))
        shown = own.succeed("model", "list"), own.run("model", "show", str(FOREIGN)).stderr
        in_mlflow(own, f"DELETE FROM model_versions WHERE version = {FOREIGN}")
        yield Story(
            *(own, first, retrained, past, past_model, moved, rolled_back, promoted, deleted),
            *(predicted, restored, listed, shown, *rename(own)),
        )


def rename(installation: Installation) -> tuple[View, View]:
    """Name another registered model, look, and train its first version; return to the old name."""
    file = installation.project / "params.yaml"
    before = file.read_text()
    edited = yaml.safe_load(before)
    edited.setdefault("tracking", {})["model_name"] = "Renamed"
    file.write_text(yaml.safe_dump(edited))
    renamed = view(installation)
    installation.succeed("retrain")
    trained = view(installation)
    file.write_text(before)
    return renamed, trained


@pytest.mark.parametrize(
    "moment",
    [
        *("first", "retrained", "moved", "rolled_back", "promoted", "deleted", "restored"),
        *("renamed", "trained"),
    ],
)
def test_every_place_names_the_same_production(story: Story, moment: str) -> None:
    assert len(set(getattr(story, moment).named.values())) == 1


def test_a_retraining_of_the_past_leaves_production(story: Story) -> None:
    assert story.retrained.named == story.first.named
    assert story.retrained.newest["model_version"] == story.past_version
    assert story.retrained.newest["until_session"] == story.first.as_of
    assert story.past_model == story.past_version


def test_an_alias_moved_by_hand_is_found(story: Story) -> None:
    assert story.moved.newest["cause"] == "found_outside"
    assert story.moved.named != story.first.named


def test_a_rollback_goes_back_with_its_reason(story: Story) -> None:
    assert story.rolled_back.named == story.first.named
    assert (story.rolled_back.newest["cause"], story.rolled_back.newest["why"]) == (
        "rollback",
        "moved by mistake",
    )
    assert story.rolled_back.newest["changed_by"]


def test_a_deleted_version_leaves_persistence_in_force(story: Story) -> None:
    assert set(story.promoted.named.values()) == {story.past_version}
    assert set(story.deleted.named.values()) == {PERSISTENCE_VERSION}
    assert "was deleted in MLflow" in story.deleted.newest["why"]
    assert "persistence" in story.predicted


def test_a_rollback_passes_over_a_deleted_version(story: Story) -> None:
    assert story.restored.named == story.first.named


def test_a_new_name_has_no_production_until_its_first_version(story: Story) -> None:
    assert set(story.renamed.named.values()) == {PERSISTENCE_VERSION}
    assert story.renamed.changes == story.restored.changes
    assert story.trained.newest["model_name"] == "Renamed"


def test_a_new_name_gives_no_number_again(story: Story) -> None:
    (version,) = set(story.trained.named.values())
    assert version > max(row["model_version"] for row in story.listed if not row["foreign"])


def test_a_version_registered_in_another_way_is_listed_as_foreign(story: Story) -> None:
    foreign, *own = story.listed
    assert (foreign["model_version"], foreign["foreign"]) == (FOREIGN, True)
    assert [row["foreign"] for row in own] == [False] * len(own)
    assert set(foreign) == set(own[0])
    listed, refused = story.shown
    assert "foreign" in listed
    assert f"version {FOREIGN} of StockPricePredictor was not registered" in refused


def test_versions_are_listed_with_their_newest_label_and_when_they_were_in_force(
    story: Story,
) -> None:
    found = json.loads(story.installation.succeed("model", "list", "--json"))
    assert [row["model_version"] for row in found] == [2, 1]
    first = found[-1]
    assert first["dataset_run_id"] == "20121231_120000"
    assert first["as_of_session"] == "2012-12-31"
    assert "2012-06-01" < first["newest_label"] < "2012-09-01"
    assert first["promoted"] is True
    assert first["scores"]["forecasts"] == 105
    (current,) = [row for row in found if row["in_production"]]
    assert current["in_force"][-1]["in_force_until"] is None
    assert current["in_force"][-1]["cause"] == "rollback"
    assert len(current["in_force"]) == 3
    shown = story.installation.succeed("model", "list")
    assert "20121231_120000" in shown


def test_a_version_is_shown_with_its_decision(story: Story) -> None:
    found = json.loads(story.installation.succeed("model", "show", "1", "--json"))
    assert found["reason"].startswith("Promoted")
    assert found["scored"]["first_session"] == "2013-01-02"
    assert found["digest"] in story.installation.succeed("model", "show", "1")


def test_two_versions_are_compared_on_sessions_that_neither_has_seen(story: Story) -> None:
    versions = json.loads(story.installation.succeed("model", "list", "--json"))
    trained = max(row["newest_label"] for row in versions)
    found = json.loads(story.installation.succeed("model", "compare", "2", "1", "--json"))
    assert found["first_session"] > trained
    assert found["last_session"] == "2013-02-28"
    assert set(found["scores"]) == {"1", "2", "persistence"}
    assert len({scores["forecasts"] for scores in found["scores"].values()}) == 1
    assert found["scores"]["persistence"]["relative_mae"] == 1.0
    difference = found["scores"]["2"]["relative_mae"] - found["scores"]["1"]["relative_mae"]
    assert (found["test"]["difference"] < 0) == (difference < 0)
    assert 0 <= found["test"]["p_value"] <= 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["show", "99"], "has no version 99"),
        (["compare", "1", "99"], "has no version 99"),
        (["compare", "1", "1"], "are one version"),
        (["promote", "99", "--why", "x"], "has no version 99"),
        (["promote", "current", "--why", "x"], "is in force already"),
        (["promote", "1"], "--why"),
        (["promote", "1", "--why", " "], "the reason is empty"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    story: Story, words: list[str], problem: str
) -> None:
    current = str(story.restored.named["status"])
    refused = story.installation.run("model", *(w.replace("current", current) for w in words))
    assert refused.returncode in (1, 2)
    assert problem in refused.stderr
    assert refused.stderr.count("\n") == 1
    count = story.installation.value("SELECT count(*) FROM production_history")
    assert count == story.trained.changes
