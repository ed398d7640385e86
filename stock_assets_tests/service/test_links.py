"""Links match the routes of the installed UIs."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import dagster_webserver
import pytest

from stock_assets.service.links import Links

LINKS = Links("http://dagster", "http://mlflow", "A model/of ours")


@pytest.fixture(scope="module")
def dagster_routes() -> set[str]:
    """Routes of the Dagster UI."""
    folder = Path(dagster_webserver.__file__).parent / "webapp" / "build"
    return routes(folder, rb'path:"(/[^"]*)"')


@pytest.fixture(scope="module")
def mlflow_routes() -> set[str]:
    """Routes of the MLflow UI, after the #."""
    folder = Path(str(files("mlflow"))) / "server" / "js" / "build"
    return routes(folder, rb'\("(/[\w/:*-]*)"\)')


def routes(folder: Path, form: bytes) -> set[str]:
    found = (re.findall(form, script.read_bytes()) for script in folder.rglob("*.js"))
    return {route.decode() for script in found for route in script}


def test_dagster_links_match_its_routes(dagster_routes: set[str]) -> None:
    assert {"/runs/:runId", "/assets(/?.*)"} <= dagster_routes
    assert LINKS.dagster_run("5f0c-1") == "http://dagster/runs/5f0c-1"
    assert LINKS.asset("predictions", "2013-01-15") == (
        "http://dagster/assets/predictions?view=partitions&partition=2013-01-15"
    )


def test_mlflow_links_match_its_routes(mlflow_routes: set[str]) -> None:
    assert {"/runs/:runUuid", "/models/:modelName/versions/:version"} <= mlflow_routes
    assert LINKS.mlflow_run("abc") == "http://mlflow/#/runs/abc"
    assert LINKS.model(3) == "http://mlflow/#/models/A%20model%2Fof%20ours/versions/3"


def test_no_link_without_an_address_or_an_id() -> None:
    nowhere = Links(None, None, "Model")
    assert nowhere.dagster_run("a") is None
    assert nowhere.asset("predictions", "2013-01-15") is None
    assert nowhere.mlflow_run("a") is None
    assert nowhere.model(1) is None
    assert LINKS.dagster_run(None) is None
    assert LINKS.mlflow_run(None) is None
    assert LINKS.model(None) is None
