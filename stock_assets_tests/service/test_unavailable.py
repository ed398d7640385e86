"""The service while its database stops and starts again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets.storage.reader import READER, READER_VARIABLE
from stock_assets_tests.cli.conftest import Installation, new_installation, wait_until
from stock_assets_tests.service.conftest import Process, open_client, serve_process
from stock_assets_tests.tampering import tampering

PATHS = ("/tickers", "/predictions/latest_for_table", "/historical_context_chart/IBM", "/readyz")


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation with one ticker and a running database."""
    with new_installation() as created:
        created.succeed("db", "start")
        engine = create_engine(created.address("stock_assets"), poolclass=NullPool)
        with tampering(engine) as connection:
            connection.execute(
                text(
                    "INSERT INTO instruments (ticker, currency, fetched_from, source) "
                    "VALUES ('IBM', 'USD', '2013-01-02', 'csv')"
                )
            )
            connection.execute(
                text(
                    "INSERT INTO raw_stock_data (ticker, session, open, high, low, close, volume, "
                    "source) VALUES ('IBM', '2013-01-02', 1, 1, 1, 1, 1, 'csv')"
                )
            )
        yield created


@pytest.fixture
def serving(installation: Installation, tmp_path: Path) -> Iterator[Process]:
    """A service that reads the database of the installation."""
    reader = installation.address("stock_assets").set(username=READER)
    address = {READER_VARIABLE: reader.render_as_string(hide_password=False)}
    with serve_process(installation.environment, tmp_path, **address) as process:
        yield process


class Load:
    """Threads that send requests all the time."""

    def __init__(self, serving: Process) -> None:
        self._serving = serving
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(path,)) for path in PATHS]
        self.responses: dict[str, list[httpx.Response]] = {path: [] for path in PATHS}
        self.failures: list[Exception] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _send(self, path: str) -> None:
        with open_client(self._serving.address) as client:
            while not self._done.wait(0.1):
                try:
                    self.responses[path].append(client.get(path))
                except httpx.HTTPError as error:
                    self.failures.append(error)


def test_requests_get_503_until_the_database_is_back(
    installation: Installation, serving: Process
) -> None:
    with open_client(serving.address) as client:
        expected = {path: client.get(path).content for path in PATHS}
        with Load(serving) as load:
            installation.succeed("db", "stop")
            wait_until(lambda: all(client.get(path).status_code == 503 for path in PATHS), "503s")
            assert client.get("/healthz").status_code == 200
            assert "stock_assets_database_up 0.0" in client.get("/metrics").text
            installation.succeed("db", "start")
            wait_until(lambda: all(client.get(path).status_code == 200 for path in PATHS), "200s")
    assert not load.failures
    for path, responses in load.responses.items():
        assert {response.status_code for response in responses} == {200, 503}
        for response in responses:
            if response.status_code == 200:
                assert response.content == expected[path]
            else:
                assert response.headers["retry-after"] == "5"
                assert "psycopg2" not in response.text
    installation.succeed("db", "stop")
    assert serving.stop() == 0
    assert "Traceback" not in serving.log.read_text()
    (one, *_) = serving.log_lines()
    assert one["client"] == "127.0.0.1"
