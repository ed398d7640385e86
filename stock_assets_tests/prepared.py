"""Prepared installations: each is built once per run of the suite and copied where it is needed.

The processes of one run share a folder. Whichever process needs an installation first builds it
there, in a separate process, under a lock; the others wait for the lock. A copy of a stopped
installation costs a fraction of a second, where initdb, four migrations, an ingestion of thirteen
years and a retraining cost a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import psutil
import yaml
from filelock import FileLock

ROOT = Path(__file__).parent.parent
SUITE_VARIABLE = "SUITE_FOLDER"

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
    "training": {"epochs": 2, "patience": 2, "shrinkage": False},
    "promotion": {"refit": False, "floor": "none"},
    "dataset": {"history_sessions": 700, "validation_sessions": 60, "test_sessions": 30},
}
"""Parameters that make a retraining take seconds; all others are as the project ships them.

Without shrinkage and a floor: so short a training has no skill, and every forecast would be of no
change, or of persistence.
"""

NO_LATER_WINNER = {"minimum_improvement": 0.9}
"""Only the first model of the registry is promoted, so that production never depends on luck."""

SECTIONS: dict[str, dict[str, dict[str, object]]] = {
    "empty": SMALL,
    "ingested": SMALL,
    "loop": SMALL,
    "demo": {**SMALL, "promotion": {**SMALL["promotion"], **NO_LATER_WINNER}},
}
"""Parameters of each prepared installation, by section."""

PARENTS = {"ingested": "empty", "loop": "ingested", "demo": "ingested"}
"""The prepared installation that each one begins with; ``empty`` begins with nothing."""

MIGRATED_DATABASE = "suite_migrated"
"""Database of every prepared server with the store's tables and without a row: a template."""

FIRST_INGESTED = date(2000, 3, 1)
LAST_INGESTED = date(2013, 3, 1)
DATASET = "20121231_120000"
SECOND_DATASET = "20130131_120000"
REPLAYED = (date(2012, 12, 31), date(2013, 1, 31))
"""First and last session that the loop forecasts; those that came due are scored."""


def write_project(folder: Path, **sections: dict[str, object]) -> Path:
    """Write the shipped project files to `folder`, with `sections` of parameters changed."""
    folder.mkdir(parents=True, exist_ok=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, section in sections.items():
        params[name] = {**params.get(name, {}), **section}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("dagster.yaml", "workspace.yaml"):
        (folder / name).write_text((ROOT / name).read_text())
    return folder


def suite_folder() -> Path:
    """Return the folder that the processes of this run share."""
    return Path(os.environ[SUITE_VARIABLE])


def environment_of(project: Path) -> dict[str, str]:
    """Return the variables of a shell in which only a project and its ``home`` are set."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STOCK_ASSETS_", "DAGSTER_", "MLFLOW_TRACKING"))
    }
    return others | {
        "STOCK_ASSETS_PROJECT": str(project),
        "STOCK_ASSETS_HOME": str(project / "home"),
        "PYTHONPATH": str(ROOT),
    }


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the other processes that name a folder in their command line, place or environment."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _names(process, str(folder))
    ]


def _names(process: psutil.Process, folder: str) -> bool:
    try:
        words = [*process.cmdline(), process.cwd(), *process.environ().values()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended, or is another user's
        return False
    return any(folder in word for word in words)


def prepared(name: str) -> Path:
    """Return the project folder of a prepared installation, built on first use.

    Raises
    ------
    RuntimeError
        Building it failed, in this process or in another one; the message is the build's output.
    """
    project = suite_folder() / "prepared" / name
    project.parent.mkdir(exist_ok=True)
    done, log = project.with_suffix(".done"), project.with_suffix(".log")
    with FileLock(project.with_suffix(".lock")):
        if not done.exists():
            if not log.exists():
                _build(name, project, log)
            if not done.exists():
                raise RuntimeError(f"building the installation {name} failed:\n{log.read_text()}")
    return project


def _build(name: str, project: Path, log: Path) -> None:
    parent = prepared(PARENTS[name]) if name in PARENTS else None
    write_project(project, **SECTIONS[name])
    if parent is not None:
        copy_home(parent, project)
    with log.open("w") as output:
        finished = subprocess.run(
            [sys.executable, "-m", __name__, name],
            env=environment_of(project),
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if finished.returncode == 0:
        project.with_suffix(".done").touch()


def prepare_in_background(names: Iterable[str]) -> None:
    """Start to build installations, one after the other, while this process does other things."""
    calls = "; ".join(f"prepared.prepared({name!r})" for name in names)
    subprocess.Popen(
        [sys.executable, "-c", f"from stock_assets_tests import prepared; {calls}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def copy_home(source: Path, target: Path) -> None:
    """Copy the stopped ``home`` of the project `source` to the project `target`."""
    # The files keep their owner: PostgreSQL runs as another user where the suite is root.
    subprocess.run(["cp", "-a", str(source / "home"), str(target / "home")], check=True)
    (target / "home" / "postgres" / ".handle_pids.json").unlink(missing_ok=True)


def _prepare_empty() -> None:
    """Create the server's folder, its four databases and the template, all migrated."""
    import optuna
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.pool import NullPool

    from stock_assets.cli.platform import open_platform
    from stock_assets.registry import Registry

    platform = open_platform()
    assert platform.instance.get_run_records(limit=1) == []
    assert Registry(platform.params.tracking).production() is None
    optuna.storages.RDBStorage(platform.variables["STOCK_ASSETS_OPTUNA_URL"])
    dagster = make_url(platform.variables["STOCK_ASSETS_DAGSTER_URL"])
    engine = create_engine(dagster, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {MIGRATED_DATABASE} TEMPLATE stock_assets"))
    # What a killed machine may lose is of no interest here, and the disk is the slowest part.
    with (platform.locations.postgres_folder / "postgresql.conf").open("a") as settings:
        settings.write("\nfsync = off\nfull_page_writes = off\n")


def _prepare_ingested() -> None:
    """Store the sample's prices, all thirteen years in one run."""
    from rich.console import Console

    from stock_assets.cli.platform import open_platform
    from stock_assets.cli.runs import run_sessions
    from stock_assets.market import calendar

    platform = open_platform()
    assert platform.engine
    sessions = calendar.sessions(FIRST_INGESTED, LAST_INGESTED)
    ingest = run_sessions(platform, Console(), ["raw_prices"], sessions)
    (platform.locations.home / "runs.json").write_text(json.dumps({"ingest": ingest.run_id}))


def _prepare_loop() -> None:
    """Retrain, replay a month and retrain again, through the functions of the command line."""
    from rich.console import Console

    from stock_assets.cli.platform import open_platform
    from stock_assets.cli.runs import run_dataset, run_sessions
    from stock_assets.market import calendar

    console, platform = Console(), open_platform()
    assert platform.engine
    replayed = calendar.sessions(*REPLAYED)
    run_dataset(platform, console, DATASET)
    forecasts = run_sessions(platform, console, ["predictions"], replayed)
    scores = run_sessions(platform, console, ["performance_log"], replayed[1:])
    run_dataset(platform, console, SECOND_DATASET)
    file = platform.locations.home / "runs.json"
    runs = json.loads(file.read_text())
    file.write_text(json.dumps({**runs, "forecasts": forecasts.run_id, "scores": scores.run_id}))


def _prepare_demo() -> None:
    """Run the demo as a person runs it; what it printed and left running is in ``demo.json``."""
    project = Path(os.environ["STOCK_ASSETS_PROJECT"])
    command = Path(sys.executable).with_name("stock-assets")
    finished = subprocess.run(
        [command, "demo"],
        env=environment_of(project),
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stderr.write(finished.stdout + finished.stderr)
    assert (finished.returncode, finished.stderr) == (0, "")
    left = [" ".join(process.cmdline()) for process in processes_of(project / "home")]
    Path("demo.json").write_text(json.dumps({"printed": finished.stdout, "left": left}))


_PREPARATIONS: dict[str, Callable[[], None]] = {
    "empty": _prepare_empty,
    "ingested": _prepare_ingested,
    "loop": _prepare_loop,
    "demo": _prepare_demo,
}

if __name__ == "__main__":
    _PREPARATIONS[sys.argv[1]]()
