"""Installations of their own, driven as a person drives them: by the installed command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from stock_assets.storage import server
from stock_assets.storage.tables import metadata
from stock_assets_tests.conftest import ROOT, SMALL, write_project

COMMAND = Path(sys.executable).with_name("stock-assets")
FOREIGN = ("DAGSTER_HOME", "MLFLOW_TRACKING_URI")

NO_LATER_WINNER = {"minimum_improvement": 0.9}
"""Only the first model of the registry is promoted, so that production never depends on luck."""

OF_RUNS = {"check_results"}
"""Tables with rows of every run, also of one that changes nothing."""

OF_THE_MOMENT = {
    *("id", "dagster_run_id", "mlflow_run_id", "dataset_run_id", "trials"),
    *("fetched_at", "first_fetched_at", "recorded_at", "revised_at", "quarantined_at"),
    *("applied_at", "created_at", "predicted_at", "evaluated_at", "decided_at"),
    "measured_at",
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
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("STOCK_ASSETS_") and name not in FOREIGN
        }
        folders = {"STOCK_ASSETS_PROJECT": self.project, "STOCK_ASSETS_HOME": self.home}
        return ours | {name: str(folder) for name, folder in folders.items()}

    def run(
        self, *arguments: str, timeout: float = 240, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``stock-assets`` to its end, whatever that is."""
        return subprocess.run(
            [COMMAND, *arguments],
            env=self.environment | variables,
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def succeed(self, *arguments: str) -> str:
        """Run ``stock-assets``, which must end well and complain of nothing; what it printed."""
        finished = self.run(*arguments)
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        return finished.stdout

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``stock-assets`` as the head of a process group of its own."""
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
        """Ask a database of the server that runs now."""
        engine = create_engine(self.address(database), poolclass=NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def value(self, query: str, database: str = "stock_assets") -> Any:
        """Ask for one value."""
        ((value,),) = self.rows(query, database)
        return value

    def has(self, query: str, database: str = "stock_assets") -> bool:
        """Whether a query finds a row; no, as long as server or table are not there."""
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
        """Rows of every table but those of runs, without what depends on the moment of writing."""
        found = {}
        for name, table in metadata.tables.items():
            if name in OF_RUNS:
                continue
            columns = ", ".join(c.name for c in table.c if c.name not in OF_THE_MOMENT)
            found[name] = self.rows(f"SELECT {columns} FROM {name} t ORDER BY t::text")
        return found

    def alias(self) -> int | None:
        """Version that carries the alias ``Production``."""
        found = self.rows("SELECT version FROM registered_model_aliases", "mlflow")
        return int(found[0][0]) if found else None

    def versions(self) -> list[int]:
        """Registered versions."""
        return [int(row[0]) for row in self.rows("SELECT version FROM model_versions", "mlflow")]

    def run_statuses(self) -> list[str]:
        """Status of every Dagster run, in order."""
        return [row[0] for row in self.rows("SELECT status FROM runs ORDER BY id", "dagster")]

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this home, by its command line, folder or environment."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            words = [*process.cmdline(), process.cwd(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # ended, or nobody's of ours
            return False
        return any(str(self.home) in word for word in words)


def wait_until(holds: Callable[[], Any], seconds: float, told: str = "") -> Any:
    """Ask again and again until the answer is true, and give it back."""
    deadline = time.monotonic() + seconds
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {told}"
        time.sleep(0.1)
    return answer


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
def new_installation(**sections: dict[str, object]) -> Iterator[Installation]:
    """Lay out a project with the small parameters and an empty home, removed at the end.

    Not below pytest's folder: each session of pytest closes that to other users, and PostgreSQL
    runs as another user where the suite is root.
    """
    with TemporaryDirectory(prefix="stock_assets_") as folder:
        project = Path(folder) / "project"
        write_project(project, **{**SMALL, "promotion": NO_LATER_WINNER, **sections})
        (project / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
        made = Installation(project, project / "home")
        try:
            yield made
        finally:
            made.run("db", "stop")


@pytest.fixture
def new_home() -> Iterator[Installation]:
    """An empty installation of the test's own."""
    with new_installation() as made:
        yield made


@dataclass(frozen=True)
class Demo:
    """An installation with a demo in it, and what was seen when the demo ended."""

    installation: Installation
    printed: str
    left: list[str]
    lasting_rows: dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """One demo for all tests, its database left running; tests add to it and take nothing away."""
    with new_installation() as made:
        printed = made.succeed("demo")
        left = [" ".join(process.cmdline()) for process in made.processes()]
        made.succeed("db", "start")
        yield Demo(made, printed, left, made.lasting_rows())


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
