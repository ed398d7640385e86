"""Shared fixtures: a separate project with the real embedded PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psutil
import pytest

from stock_assets_tests.prepared import (
    DATASET,
    FIRST_INGESTED,
    LAST_INGESTED,
    MIGRATED_DATABASE,
    REPLAYED,
    ROOT,
    SECOND_DATASET,
    SMALL,
    SUITE_VARIABLE,
    copy_home,
    prepare_in_background,
    prepared,
    processes_of,
    suite_folder,
    write_project,
)

if TYPE_CHECKING:
    import dagster as dg
    from playwright.sync_api import Browser
    from sqlalchemy import Engine

    from stock_assets.cli.platform import Platform
    from stock_assets.defs.resources import Store

__all__ = ["DATASET", "FIRST_INGESTED", "LAST_INGESTED", "REPLAYED", "ROOT", "SECOND_DATASET"]

for _profile, _examples in (("default suite", 20), ("long suite", 100)):
    hypothesis.settings.register_profile(
        _profile, max_examples=_examples, deadline=None, print_blob=True
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name a fresh project and home; the processes of one run of the suite share a folder."""
    is_default = "not long" in config.option.markexpr
    hypothesis.settings.load_profile("default suite" if is_default else "long suite")
    # Else each of the many processes that tests start compiles the package again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not _is_worker(config):
        # A run that is terminated stops its servers, too.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        # Not below pytest's own folder, which is closed to the user that PostgreSQL runs as.
        os.environ[SUITE_VARIABLE] = tempfile.mkdtemp(prefix="stock_assets_suite_")
    folder = suite_folder() / os.environ.get("PYTEST_XDIST_WORKER", "main")
    write_project(folder, **SMALL)
    for name in [name for name in os.environ if name.startswith("STOCK_ASSETS_")]:
        del os.environ[name]
    os.environ["STOCK_ASSETS_PROJECT"] = str(folder)
    os.environ["STOCK_ASSETS_HOME"] = str(folder / "home")


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is one of several processes that share out the tests."""
    return hasattr(config, "workerinput")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that need no installation first; refuse two tests of one id.

    Several processes that share out the suite would run only one of the two.
    """
    twice = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if twice:
        raise pytest.UsageError(f"several tests have one id: {', '.join(twice)}")
    # While these run, the installations that the others need are built. The files with the longest
    # tests follow, so that none of them is left for one process at the end.
    order = {
        name: place
        for place, name in enumerate(("demo", "looped", "new_home", "loop", "platform"), 1)
    }
    places: dict[Path, int] = {}
    for item in items:
        names = getattr(item, "fixturenames", ())
        place = min((order[name] for name in names if name in order), default=9)
        places[item.path] = min(place, places.get(item.path, 9))
    items.sort(key=lambda item: places[item.path] % 9)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with the installations that tests need while the tests that need none run."""
    fixtures = {"loop": ("loop", "looped"), "demo": ("demo",)}
    needed = [name for name, users in fixtures.items() if any(_needs(session, u) for u in users)]
    if needed and os.environ.get("PYTEST_XDIST_WORKER") == "gw0":
        prepare_in_background(needed)


def _needs(session: pytest.Session, fixture: str) -> bool:
    return any(fixture in getattr(item, "fixturenames", ()) for item in session.items)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End everything that the run has started, also by processes that crashed, and remove it."""
    if _is_worker(config):
        return
    for process in processes_of(suite_folder()):
        with suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait()
    shutil.rmtree(suite_folder(), ignore_errors=True)


@pytest.fixture(scope="session")
def project() -> Path:
    """Return the project folder of this process, named in the environment."""
    return Path(os.environ["STOCK_ASSETS_PROJECT"])


@pytest.fixture(scope="session")
def platform(project: Path, request: pytest.FixtureRequest) -> Platform:
    """Return this process's installation: database running, schema migrated, environment set.

    Where some test of the run needs the loop, the installation holds it from the beginning.
    """
    from stock_assets.cli.platform import open_platform

    copy_home(prepared("loop" if _needs(request.session, "loop") else "empty"), project)
    opened = open_platform()
    assert opened.engine  # connected before a test names another database
    return opened


AS_OF = date(2012, 12, 31)


@dataclass(frozen=True)
class Loop:
    """A whole turn of the loop on this process's installation.

    All prices of the sample; a retraining as of the end of 2012, promoted as there was nothing
    before; January 2013 replayed; a retraining as of its end.
    """

    platform: Platform
    replayed: tuple[date, ...]
    store: Store

    @cached_property
    def ingest(self) -> dg.ExecuteInProcessResult:
        """The run that stored the prices."""
        return self._result("ingest")

    @cached_property
    def forecasts(self) -> dg.ExecuteInProcessResult:
        """The run that forecast the replayed sessions."""
        return self._result("forecasts")

    @cached_property
    def scores(self) -> dg.ExecuteInProcessResult:
        """The run that scored them."""
        return self._result("scores")

    def _result(self, name: str) -> dg.ExecuteInProcessResult:
        """Read a run's events back from the event log."""
        import dagster as dg

        instance = self.platform.instance
        run_id = json.loads((self.platform.locations.home / "runs.json").read_text())[name]
        run = instance.get_run_by_id(run_id)
        assert run is not None
        events = [entry.dagster_event for entry in instance.all_logs(run_id)]
        return dg.ExecuteInProcessResult(
            [event for event in events if event is not None],
            run,
            None,
            self.platform.definitions.resolve_job_def(run.job_name),
        )


@pytest.fixture(scope="session")
def loop(platform: Platform) -> Loop:
    """Return the loop that this process's installation holds."""
    from stock_assets.defs.resources import Store
    from stock_assets.market import calendar
    from stock_assets.storage.database import STORE_URL_VARIABLE

    store = Store(
        database_url=platform.variables[STORE_URL_VARIABLE],
        arrays_url=platform.locations.arrays_url,
    )
    return Loop(platform, tuple(calendar.sessions(*REPLAYED)), store)


@pytest.fixture(scope="session")
def second_retraining(loop: Loop) -> str:
    """Return the dataset whose candidate has met the one that was in production."""
    return SECOND_DATASET


@contextmanager
def throw_away_database(platform: Platform, template: str = "template1") -> Iterator[str]:
    """Create a database on the suite's server, by default without a table; yields its address.

    A template may have no connection: the idle ones of other tests are ended, and pools open new
    ones.
    """
    from sqlalchemy.engine import make_url

    from stock_assets.storage.database import STORE_URL_VARIABLE
    from stock_assets.storage.server import database_url

    name = f"suite_{uuid.uuid4().hex}"
    if template not in ("template1", MIGRATED_DATABASE):
        _administer(
            platform,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{template}' AND state = 'idle' AND pid <> pg_backend_pid()",
        )
    _administer(platform, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield database_url(make_url(platform.variables[STORE_URL_VARIABLE]), name)
    _administer(platform, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def own_database(platform: Platform) -> Iterator[str]:
    """Address of a migrated database beside the installation's, for tests that write."""
    with throw_away_database(platform, MIGRATED_DATABASE) as url:
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
    from stock_assets.storage.database import engine_for
    from stock_assets_tests.tampering import empty

    engine = engine_for(own_database)
    empty(engine)
    return engine


@pytest.fixture
def own_store(
    platform: Platform, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """Stores of one test: empty database, arrays and forecast files.

    MLflow's database is that of the suite, and so are its artifacts.
    """
    from stock_assets.defs.resources import Store
    from stock_assets.storage.database import STORE_URL_VARIABLE
    from stock_assets.storage.mlflow_database import adopt_artifacts

    address = engine.url.render_as_string(hide_password=False)
    artifacts = platform.locations.artifacts_folder
    artifacts.mkdir(exist_ok=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / artifacts.name).symlink_to(artifacts)
    monkeypatch.setenv(STORE_URL_VARIABLE, address)
    monkeypatch.setenv("STOCK_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STOCK_ASSETS_ARRAYS_URL", str(tmp_path / "home" / "arrays"))
    yield Store(database_url=address, arrays_url=str(tmp_path / "home" / "arrays"))
    # A retraining of the test has given the experiment the address of the test's home.
    adopt_artifacts(platform.variables["MLFLOW_TRACKING_URI"], artifacts)


def _administer(platform: Platform, statement: str) -> None:
    from sqlalchemy import create_engine, text

    from stock_assets.storage.database import STORE_URL_VARIABLE

    address = platform.variables[STORE_URL_VARIABLE]
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
