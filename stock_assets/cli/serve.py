"""``stock-assets serve``: the API and the dashboard, in the foreground."""

from __future__ import annotations

import logging
import signal

from rich.console import Console
from sqlalchemy.engine import URL, make_url

from stock_assets.cli.platform import open_platform, require_free_port
from stock_assets.cli.signals import recorded_signals
from stock_assets.config import load_params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.service.settings import ServiceSettings
from stock_assets.storage import server
from stock_assets.storage.database import STORE_URL_VARIABLE
from stock_assets.storage.reader import (
    READER,
    READER_VARIABLE,
    reader_engine,
    reader_statements,
    reader_url,
    require_reader,
)

_STOP_SECONDS = 10
_PLACEHOLDER = "PASSWORD"


def find_reader() -> URL:
    """Return the address with which the service reads; start the embedded database if necessary.

    With ``STOCK_ASSETS_READER_URL`` nothing else of the installation is needed.

    Raises
    ------
    StockAssetsError
        The database is external and the variable is not set; the remedy is the SQL for a role.
    """
    if (named := reader_url()) is not None:
        return named
    if (external := server.external_url()) is not None:
        raise StockAssetsError(
            f"the database is external and {READER_VARIABLE} is not set",
            _reader_instructions(external),
        )
    store = make_url(open_platform().variables[STORE_URL_VARIABLE])
    return store.set(username=READER)


def _reader_instructions(external: URL) -> str:
    statements = reader_statements(external.username or "postgres", "stock_assets", _PLACEHOLDER)
    address = external.set(
        drivername="postgresql", username=READER, password=_PLACEHOLDER, database="stock_assets"
    ).render_as_string(hide_password=False)
    return (
        "As an administrator run this in the database stock_assets, with a password in place of "
        f"{_PLACEHOLDER}: {'; '.join(statements)}; then set {READER_VARIABLE}={address}"
    )


def serve(console: Console, settings: ServiceSettings) -> None:
    """Run the service until Ctrl-C.

    Raises
    ------
    StockAssetsError
        The port is in use, or the database cannot be read.
    """
    import uvicorn

    from stock_assets.service.app import create_app
    from stock_assets.service.app_state import AppState

    require_free_port(settings.host, settings.port, "--port")
    params = load_params(find_locations().params_file)
    reader = find_reader()
    require_reader(reader)
    engine = reader_engine(reader)
    app = create_app(AppState(engine, params, settings))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    _log_to_stderr()
    console.print(f"[link]{settings.address}[/link]  Ctrl-C stops it.")
    try:
        # uvicorn raises these signals again after it has stopped; here they are not an error.
        with recorded_signals(signal.SIGINT, signal.SIGTERM):
            uvicorn.Server(config).run()
    finally:
        engine.dispose()


def _log_to_stderr() -> None:
    """Log requests and errors as lines of JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("stock_assets.service")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
