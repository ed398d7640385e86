"""A real service: a uvicorn process of its own, on the loop's data, as the reader."""

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
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.service.app_state import AppState
from stock_assets.service.response_cache import ResponseCache
from stock_assets.service.settings import ServiceSettings
from stock_assets.storage.reader import READER, READER_VARIABLE, ensure_reader, reader_engine
from stock_assets_tests.cli.conftest import COMMAND, free_port, wait_until
from stock_assets_tests.conftest import Loop

UNHURRIED = {"STOCK_ASSETS_REQUESTS_PER_MINUTE": "1000000"}
"""So many requests that tests never meet the limit, unless they are about it."""


@dataclass(frozen=True)
class Service:
    """A running ``stock-assets serve``."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def client(self, **headers: str) -> httpx.Client:
        """Open connections to it, with headers that every request is to carry."""
        return httpx.Client(base_url=self.address, headers=headers, timeout=30, trust_env=False)

    def log_lines(self) -> list[dict[str, Any]]:
        """Read a record per request answered so far."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


def environment_without_settings() -> dict[str, str]:
    """Variables of this process, with nothing said of the service."""
    folders = ("STOCK_ASSETS_PROJECT", "STOCK_ASSETS_HOME")
    return {
        name: value
        for name, value in os.environ.items()
        if name in folders or not name.startswith("STOCK_ASSETS_")
    }


@contextmanager
def begin_serve(
    environment: Mapping[str, str], folder: Path, *words: str, **variables: str
) -> Iterator[Service]:
    """Run ``stock-assets serve`` on a free loopback port until the block ends."""
    port = free_port()
    log = folder / f"serve_{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", str(port), *words],
            env={**environment, **UNHURRIED, **variables},
            cwd=environment["STOCK_ASSETS_PROJECT"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    service = Service(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_until(lambda: _has_begun(service), 60, "the service answers")
        yield service
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _has_begun(service: Service) -> bool:
    assert service.process.poll() is None, service.log.read_text()
    try:
        return service.client().get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def running(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that only ask it."""
    folder = tmp_path_factory.mktemp("service")
    with begin_serve(environment_without_settings(), folder) as service:
        yield service


@pytest.fixture(scope="session")
def service(running: Service) -> str:
    """Address of a running service on the loop's data."""
    return running.address


@pytest.fixture(scope="session")
def client(running: Service) -> Iterator[httpx.Client]:
    """Connections to the running service, never through a proxy."""
    with running.client() as opened:
        yield opened


def served(engine: Engine, source: str = "sample") -> AppState:
    """What the application answers from, with prices of a source."""
    params = Params.model_validate({"prices": {"source": source}})
    return AppState(engine, params, ServiceSettings(), ResponseCache(engine, 2**20))


def ask(app: FastAPI, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Send one request to an application in this process."""

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(asked())


@pytest.fixture
def own_reader(engine: Engine) -> Iterator[Engine]:
    """The reader's engine on the test's own database."""
    ensure_reader(engine)
    opened = reader_engine(engine.url.set(username=READER))
    yield opened
    opened.dispose()


@contextmanager
def begin_own(engine: Engine, folder: Path, *words: str, **variables: str) -> Iterator[Service]:
    """Run a service on the test's own database."""
    ensure_reader(engine)
    address = engine.url.set(username=READER).render_as_string(hide_password=False)
    settings = {READER_VARIABLE: address, **variables}
    with begin_serve(environment_without_settings(), folder, *words, **settings) as service:
        yield service
