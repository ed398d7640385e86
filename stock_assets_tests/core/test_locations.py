"""Folders of an installation: the nearest project, or those that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stock_assets.core.locations import find_locations


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder, with nothing named in the environment."""
    for name in [name for name in os.environ if name.startswith("STOCK_ASSETS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def test_the_project_is_the_nearest_folder_with_parameters(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = nowhere / "project" / "notebooks" / "deep"
    inner.mkdir(parents=True)
    (nowhere / "params.yaml").touch()
    (nowhere / "project" / "params.yaml").touch()
    monkeypatch.chdir(inner)
    locations = find_locations()
    assert locations.project == nowhere / "project"
    assert locations.params_file == nowhere / "project" / "params.yaml"
    assert locations.home == nowhere / "project" / ".stock_assets"
    assert locations.arrays_url == str(locations.home / "arrays")


def test_without_parameters_the_project_is_the_working_folder(nowhere: Path) -> None:
    assert find_locations().project == nowhere


def test_the_environment_names_each_place(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / "params.yaml").touch()
    monkeypatch.setenv("STOCK_ASSETS_PROJECT", str(nowhere / "elsewhere"))
    monkeypatch.setenv("STOCK_ASSETS_HOME", str(nowhere / "data"))
    monkeypatch.setenv("STOCK_ASSETS_ARRAYS_URL", "s3://bucket/arrays")
    locations = find_locations()
    assert locations.project == nowhere / "elsewhere"
    assert locations.home == nowhere / "data"
    assert locations.arrays_url == "s3://bucket/arrays"
    folders = (
        locations.postgres_folder,
        locations.artifacts_folder,
        locations.forecasts_folder,
        locations.reports_folder,
    )
    assert len({locations.home, *folders}) == 5
    assert all(folder.parent == locations.home for folder in folders)
