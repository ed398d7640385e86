"""The service on real sockets: in a thread of this process, or as ``stock-assets serve``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine

from stock_assets.config import Params, load_params
from stock_assets.service.app import create_app
from stock_assets.service.app_state import AppState
from stock_assets.service.settings import ServiceSettings
from stock_assets.storage.reader import READER, ensure_reader, reader_engine
from stock_assets_tests.cli.conftest import COMMAND, free_port, wait_until
from stock_assets_tests.conftest import Loop

UNLIMITED = 1_000_000
"""Requests per minute that no test reaches, except those of the limit."""


def state_for(engine: Engine, source: str = "sample", **settings: Any) -> AppState:
    """Return the state of an application with prices of a source."""
    params = Params.model_validate({"prices": {"source": source}})
    return AppState(engine, params, ServiceSettings(requests_per_minute=UNLIMITED, **settings))


def unavailable_engine() -> Engine:
    """Return an engine whose server does not exist."""
    return create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")


def send(app: FastAPI, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Send one request to an application in this process."""

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(request())


@contextmanager
def serve_app(app: FastAPI) -> Iterator[str]:
    """Serve an application from a thread until the block ends; gives its address."""
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, server_header=False)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the server listens")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def open_client(address: str, **headers: str) -> httpx.Client:
    """Open connections to a service, never through a proxy."""
    return httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False)


@contextmanager
def serve_database(engine: Engine, project: Path, **settings: Any) -> Iterator[str]:
    """Serve a database, read as the reader, with the parameters of a project."""
    ensure_reader(engine)
    reader = reader_engine(engine.url.set(username=READER))
    params = load_params(project / "params.yaml")
    state = AppState(reader, params, ServiceSettings(requests_per_minute=UNLIMITED, **settings))
    with serve_app(create_app(state)) as address:
        yield address
    reader.dispose()


@pytest.fixture(scope="session")
def service(loop: Loop, project: Path) -> Iterator[str]:
    """Address of a service on the loop's data."""
    with serve_database(loop.store.engine, project) as address:
        yield address


@pytest.fixture(scope="session")
def client(service: str) -> Iterator[httpx.Client]:
    """Connections to the service on the loop's data."""
    with open_client(service) as opened:
        yield opened


@dataclass(frozen=True)
class Process:
    """A running ``stock-assets serve``."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def log_lines(self) -> list[dict[str, Any]]:
        """Read the log line of each request."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self) -> int:
        """Terminate the process; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


@contextmanager
def serve_process(
    environment: Mapping[str, str], folder: Path, **variables: str
) -> Iterator[Process]:
    """Run ``stock-assets serve`` on a free loopback port until the block ends."""
    port = free_port()
    log = folder / f"serve_{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", str(port)],
            env={**environment, **variables},
            cwd=environment["STOCK_ASSETS_PROJECT"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Process(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_until(lambda: _is_alive(running), "the service answers")
        yield running
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _is_alive(running: Process) -> bool:
    assert running.process.poll() is None, running.log.read_text()
    try:
        return open_client(running.address).get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def environment_without_settings() -> dict[str, str]:
    """Return the variables of this process, without settings of the service."""
    folders = ("STOCK_ASSETS_PROJECT", "STOCK_ASSETS_HOME")
    return {
        name: value
        for name, value in os.environ.items()
        if name in folders or not name.startswith("STOCK_ASSETS_")
    }
