"""What the suite shares: a project of its own, with the real embedded PostgreSQL behind it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import yaml

ROOT = Path(__file__).parent.parent

hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")

SMALL = {
    "tuning": {
        "trials": 2,
        "epochs": 1,
        "search_space": {
            "architecture": ["lstm"],
            "hidden_size": {"low": 8, "high": 8, "step": 8},
            "layers": {"low": 1, "high": 1},
            "batch_size": {"low": 128, "high": 128},
        },
    },
    "training": {"epochs": 2, "patience": 2},
    "dataset": {"history_sessions": 700, "validation_sessions": 60, "test_sessions": 30},
}
"""Parameters that make a retraining take seconds; everything else is as the project ships it."""


def write_project(folder: Path, **sections: dict[str, object]) -> Path:
    """Lay out a project folder with the shipped files and, over them, `sections` of parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, section in sections.items():
        params[name] = {**params.get(name, {}), **section}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("dagster.yaml", "workspace.yaml"):
        (folder / name).write_text((ROOT / name).read_text())
    return folder


_SCRATCH = tempfile.TemporaryDirectory(prefix="stock_assets_")


def pytest_configure() -> None:
    """Name a fresh project and home: the graph reads params.yaml when it is imported."""
    folder = write_project(Path(_SCRATCH.name) / "project", **SMALL)
    for name in [name for name in os.environ if name.startswith("STOCK_ASSETS_")]:
        del os.environ[name]
    os.environ["STOCK_ASSETS_PROJECT"] = str(folder)
    os.environ["STOCK_ASSETS_HOME"] = str(folder / "home")


def pytest_unconfigure() -> None:
    """Stop the suite's database, if it was started, and remove the suite's own folder."""
    home = Path(_SCRATCH.name) / "project" / "home"
    if (home / "postgres").exists():
        from stock_assets.config import Locations
        from stock_assets.storage import server

        server.stop(Locations(project=home.parent, home=home, arrays_url=str(home / "arrays")))
    _SCRATCH.cleanup()


@pytest.fixture(scope="session")
def project() -> Path:
    """The suite's project folder, named in the environment before anything loads the graph."""
    return Path(os.environ["STOCK_ASSETS_PROJECT"])


@pytest.fixture(scope="session")
def platform(project: Path) -> Iterator[object]:
    """The suite's installation: database running, schema migrated, environment set."""
    from stock_assets.cli.platform import open_platform

    yield open_platform()
