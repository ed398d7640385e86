"""What the suite shares: a project of its own, with the real embedded PostgreSQL behind it."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import yaml

if TYPE_CHECKING:
    import dagster as dg
    from playwright.sync_api import Browser
    from sqlalchemy import Engine

    from stock_assets.cli.platform import Platform
    from stock_assets.defs.resources import Store

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
    """Name a fresh project and home: commands and definitions find params.yaml there."""
    folder = write_project(Path(_SCRATCH.name) / "project", **SMALL)
    for name in [name for name in os.environ if name.startswith("STOCK_ASSETS_")]:
        del os.environ[name]
    os.environ["STOCK_ASSETS_PROJECT"] = str(folder)
    os.environ["STOCK_ASSETS_HOME"] = str(folder / "home")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse two tests of one id: processes that share out the suite would run one of them."""
    twice = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if twice:
        raise pytest.UsageError(f"several tests have one id: {', '.join(twice)}")


def pytest_unconfigure() -> None:
    """Stop the suite's database, if it was started, and remove the suite's own folder."""
    home = Path(_SCRATCH.name) / "project" / "home"
    if (home / "postgres").exists():
        from stock_assets.core.locations import Locations
        from stock_assets.storage import server

        server.stop(Locations(project=home.parent, home=home, arrays_url=str(home / "arrays")))
    _SCRATCH.cleanup()


@pytest.fixture(scope="session")
def project() -> Path:
    """The suite's project folder, named in the environment before anything loads the graph."""
    return Path(os.environ["STOCK_ASSETS_PROJECT"])


@pytest.fixture(scope="session")
def platform(project: Path) -> Iterator[Platform]:
    """The suite's installation: database running, schema migrated, environment set."""
    from stock_assets.cli.platform import open_platform

    opened = open_platform()
    assert opened.engine  # connected before a test names another database
    yield opened


FIRST_INGESTED = date(2000, 3, 1)
LAST_INGESTED = date(2013, 3, 1)
AS_OF = date(2012, 12, 31)
DATASET = "20121231_120000"
SECOND_DATASET = "20130131_120000"
REPLAYED = (date(2012, 12, 31), date(2013, 1, 31))
"""First and last session that the loop forecasts; what came due of them is scored."""


@dataclass(frozen=True)
class Loop:
    """A whole turn of the loop on the suite's installation, each part made once.

    All prices of the sample; a retraining as of the end of 2012, promoted as there was nothing
    before; January 2013 replayed.
    """

    platform: Platform
    ingest: dg.ExecuteInProcessResult
    forecasts: dg.ExecuteInProcessResult
    scores: dg.ExecuteInProcessResult
    replayed: tuple[date, ...]
    store: Store


@pytest.fixture(scope="session")
def loop(platform: Platform) -> Loop:
    """Run the loop once, through the same functions as the command line."""
    from rich.console import Console

    from stock_assets.cli.runs import run_dataset, run_sessions
    from stock_assets.defs.resources import Store
    from stock_assets.market import calendar
    from stock_assets.storage.database import STORE_URL_VARIABLE

    console = Console(quiet=True)
    store = Store(
        database_url=platform.variables[STORE_URL_VARIABLE],
        arrays_url=platform.locations.arrays_url,
    )
    ingested = calendar.sessions(FIRST_INGESTED, LAST_INGESTED)
    replayed = calendar.sessions(*REPLAYED)
    ingest = run_sessions(platform, console, ["raw_prices"], ingested)
    run_dataset(platform, console, DATASET)
    forecasts = run_sessions(platform, console, ["predictions"], replayed)
    scores = run_sessions(platform, console, ["performance_log"], replayed[1:])
    return Loop(platform, ingest, forecasts, scores, tuple(replayed), store)


@pytest.fixture(scope="session")
def second_retraining(loop: Loop) -> str:
    """A second dataset whose candidate has met the one that was in production; its id."""
    from rich.console import Console

    from stock_assets.cli.runs import run_dataset

    run_dataset(loop.platform, Console(quiet=True), SECOND_DATASET)
    return SECOND_DATASET


@contextmanager
def throw_away_database(platform: Platform) -> Iterator[str]:
    """Make a database without a table on the suite's server; gives its address."""
    from sqlalchemy.engine import make_url

    from stock_assets.storage.database import STORE_URL_VARIABLE
    from stock_assets.storage.server import database_url

    name = f"suite_{uuid.uuid4().hex}"
    _administer(platform, f"CREATE DATABASE {name}")
    yield database_url(make_url(platform.variables[STORE_URL_VARIABLE]), name)
    _administer(platform, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def own_database(platform: Platform) -> Iterator[str]:
    """Address of a migrated database beside the installation's, for tests that write."""
    from stock_assets.storage.database import upgrade

    with throw_away_database(platform) as url:
        upgrade(url)
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser. (It runs an event loop, which other modules may not find running.)"""
    from stock_assets_tests.browsing import chromium

    with chromium() as started:
        yield started


@pytest.fixture
def engine(own_database: str) -> Engine:
    """Engine on a migrated database without a row."""
    from sqlalchemy import text

    from stock_assets.storage.database import engine_for
    from stock_assets.storage.tables import metadata

    engine = engine_for(own_database)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY"))
    return engine


@pytest.fixture
def own_store(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Stores of the test's own: empty database, arrays and forecast files."""
    from stock_assets.defs.resources import Store
    from stock_assets.storage.database import STORE_URL_VARIABLE

    address = engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv(STORE_URL_VARIABLE, address)
    monkeypatch.setenv("STOCK_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STOCK_ASSETS_ARRAYS_URL", str(tmp_path / "home" / "arrays"))
    return Store(database_url=address, arrays_url=str(tmp_path / "home" / "arrays"))


def _administer(platform: Platform, statement: str) -> None:
    from sqlalchemy import create_engine, text

    from stock_assets.storage.database import STORE_URL_VARIABLE

    address = platform.variables[STORE_URL_VARIABLE]
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
