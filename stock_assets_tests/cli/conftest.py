"""Separate installations, driven by the installed command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from stock_assets.cli import main
from stock_assets.storage import server
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.tables import forecast_issues, metadata, record_links
from stock_assets_tests.prepared import (
    ROOT,
    SECTIONS,
    copy_home,
    environment_of,
    prepared,
    processes_of,
    suite_folder,
    write_project,
)

COMMAND = Path(sys.executable).with_name("stock-assets")

IDLE_SECONDS = 60
"""How long processes may use no processor time before a wait for them is given up."""

OF_RUNS = {"check_results"}
"""Tables with rows of every run, also of one that changes nothing."""

OF_THE_MOMENT = {
    "issue",
    *("id", "dagster_run_id", "mlflow_run_id", "dataset_run_id", "trials"),
    *("fetched_at", "first_fetched_at", "recorded_at", "revised_at", "quarantined_at"),
    *("applied_at", "known_at", "created_at", "predicted_at", "evaluated_at", "decided_at"),
    *("measured_at", "in_force_from"),
}
"""Columns that carry an id, a time or a duration; the others depend on the data alone."""


@dataclass(frozen=True)
class Installation:
    """A project folder and its data folder."""

    project: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a shell in which nothing but the two folders is set."""
        return environment_of(self.project) | {"STOCK_ASSETS_HOME": str(self.home)}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``stock-assets`` to its end."""
        return subprocess.run(
            [COMMAND, *arguments],
            env=self.environment | variables,
            cwd=self.project,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, *arguments: str) -> str:
        """Run ``stock-assets``, which must succeed without errors; return its output."""
        finished = self.run(*arguments)
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        return finished.stdout

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``stock-assets`` in a new process group."""
        with (self.project / "output.txt").open("wb") as output:
            return subprocess.Popen(
                [COMMAND, *arguments],
                env=self.environment,
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What the command begun last has printed so far."""
        return (self.project / "output.txt").read_text()

    def address(self, database: str) -> URL:
        """Address of a database of the server that runs now."""
        embedded = server._embedded()
        running = embedded.utils.PostmasterInfo.read_from_pgdata(self.home / "postgres")
        assert running is not None, f"no server of {self.home} runs"
        return make_url(running.get_uri()).set(drivername=server.DRIVER, database=database)

    def rows(self, query: str, database: str = "stock_assets") -> list[tuple[Any, ...]]:
        """Query a database of the running server."""
        engine = create_engine(self.address(database), poolclass=NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def value(self, query: str, database: str = "stock_assets") -> Any:
        """Query one value."""
        ((value,),) = self.rows(query, database)
        return value

    def has(self, query: str, database: str = "stock_assets") -> bool:
        """Whether a query finds a row; False without the server or the table."""
        if not (self.home / "postgres" / "postmaster.pid").exists():
            return False
        try:
            return bool(self.rows(query, database))
        except (AssertionError, OperationalError, ProgrammingError):
            return False

    def tables(self) -> dict[str, str]:
        """Digest of every table but those of runs, to the last byte of each row."""
        return {
            name: self.value(f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {name} t")
            for name in metadata.tables
            if name not in OF_RUNS
        }

    def lasting_rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Rows of every table but those of runs, without what depends on the moment of writing.

        The record is left out: it has as many links and issues as it took transactions.
        """
        found = {}
        of_the_record = {
            *(record_links.name, forecast_issues.name),
            *(history.name for history in HISTORIES.values()),
        }
        for name, table in metadata.tables.items():
            if name in OF_RUNS | of_the_record:
                continue
            of_models = (
                {"digest"} if name.startswith("production") else set()
            )  # of the dataset's id
            columns = ", ".join(c.name for c in table.c if c.name not in OF_THE_MOMENT | of_models)
            found[name] = self.rows(f"SELECT {columns} FROM {name} t ORDER BY t::text")
        return found

    def alias(self, model_name: str = "StockPricePredictor") -> int | None:
        """Version that carries the alias ``Production``."""
        query = f"SELECT version FROM registered_model_aliases WHERE name = '{model_name}'"
        found = self.rows(query, "mlflow")
        return int(found[0][0]) if found else None

    def versions(self) -> list[int]:
        """Registered versions."""
        return [int(row[0]) for row in self.rows("SELECT version FROM model_versions", "mlflow")]

    def run_statuses(self) -> list[str]:
        """Status of every Dagster run, in order."""
        return [row[0] for row in self.rows("SELECT status FROM runs ORDER BY id", "dagster")]

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this home, by its command line, folder or environment."""
        return processes_of(self.home)


def wait_until(holds: Callable[[], Any], what: str) -> Any:
    """Return the first true result of a function that is called again and again.

    Raises
    ------
    AssertionError
        Nothing moves any more: no process that this one has started has used processor time for
        `IDLE_SECONDS`. So a slow machine is waited for, and a stuck one is not.
    """
    used, since = -1.0, time.monotonic()
    while not (found := holds()):
        if time.monotonic() - since > IDLE_SECONDS:
            now = _processor_seconds()
            assert now > used + 0.1, f"nothing moves, and this has not come: {what}"
            used, since = now, time.monotonic()
        time.sleep(0.1)
    return found


def _processor_seconds() -> float:
    """Processor time of every process that this one has started, and they in turn."""
    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def is_free(port: int) -> bool:
    """Whether nothing listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    """Find a loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def new_installation(
    *, bare: bool = False, **sections: dict[str, object]
) -> Iterator[Installation]:
    """Write a project with the small parameters; its home is migrated and holds no row.

    Parameters
    ----------
    bare : bool
        There is no home at all: the first command creates everything.
    """
    # Not below pytest's folder: each session of pytest closes that to other users, and PostgreSQL
    # runs as another user where the suite is root.
    with TemporaryDirectory(prefix="installation_", dir=suite_folder()) as folder:
        project = Path(folder) / "project"
        write_project(project, **{**SECTIONS["demo"], **sections})
        (project / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
        created = Installation(project, project / "home")
        if not bare:
            copy_home(prepared("empty"), project)
        try:
            yield created
        finally:
            for process in created.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    process.wait()


@pytest.fixture
def new_home() -> Iterator[Installation]:
    """A new installation, migrated and without a row."""
    with new_installation() as made:
        yield made


@pytest.fixture
def bare_home() -> Iterator[Installation]:
    """A new project in which nothing was ever started."""
    with new_installation(bare=True) as made:
        yield made


def copy_of(name: str, installation: Installation) -> None:
    """Give an installation without a home a copy of a prepared one, its database running."""
    copy_home(prepared(name), installation.project)
    installation.succeed("db", "start")


@pytest.fixture(scope="session")
def looped() -> Iterator[Installation]:
    """A copy of the loop for the commands, its database running; tests delete nothing."""
    with new_installation(bare=True, **SECTIONS["loop"]) as created:
        copy_of("loop", created)
        yield created


@dataclass(frozen=True)
class Finished:
    """How a command that ran in this process ended."""

    returncode: object
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The only line of a failure, without the word that begins it."""
        assert self.returncode != 0
        assert "Traceback" not in self.stdout
        (line,) = self.stderr.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


Command = Callable[..., Finished]


@pytest.fixture
def command(looped: Installation, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``stock-assets`` in this process, on the loop or on the installation `at`.

    `project` names another project folder. The environment and the handlers of signals are as
    before afterwards.
    """

    def run(
        *words: str,
        at: Installation = looped,
        project: Path | None = None,
        **variables: str,
    ) -> Finished:
        installation = replace(at, project=project or at.project)
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        capsys.readouterr()
        with (
            patch.dict(os.environ, installation.environment | variables, clear=True),
            patch.object(sys, "argv", ["stock-assets", *words]),
            pytest.raises(SystemExit) as ended,
        ):
            main.main()
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        main._options["traceback"] = False
        return Finished(ended.value.code or 0, *capsys.readouterr())

    return run


@dataclass(frozen=True)
class Demo:
    """A copy of an installation with a demo in it, and what was seen when the demo ended."""

    installation: Installation
    printed: str
    left: list[str]
    lasting_rows: dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """One demo for all tests of a process, its database running; tests delete nothing."""
    with new_installation(bare=True) as made:
        copy_of("demo", made)
        original = prepared("demo")
        seen = json.loads((original / "demo.json").read_text())
        printed = seen["printed"].replace(str(original / "home"), str(made.home))
        yield Demo(made, printed, seen["left"], made.lasting_rows())


@pytest.fixture
def demoed(demo: Demo) -> Installation:
    """The installation with the demo in it, its database running."""
    if not server.is_running(_locations(demo.installation)):
        demo.installation.succeed("db", "start")
    return demo.installation


def _locations(installation: Installation) -> Any:
    from stock_assets.core.locations import Locations

    home = installation.home
    return Locations(project=installation.project, home=home, arrays_url=str(home / "arrays"))
