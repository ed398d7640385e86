"""The database goes away under requests and comes back: told meanwhile, forgotten afterwards."""

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
from stock_assets_tests.service.conftest import Service, begin_serve

pytestmark = pytest.mark.slow

PATHS = ("/tickers", "/predictions/latest_for_table", "/historical_context_chart/IBM", "/readyz")


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation with tickers, its database running."""
    with new_installation() as made:
        made.succeed("db", "start")
        engine = create_engine(made.address("stock_assets"), poolclass=NullPool)
        with engine.begin() as connection:
            for ticker in ("IBM", "MSFT"):
                connection.execute(
                    text(
                        "INSERT INTO instruments (ticker, currency, fetched_from, source) "
                        "VALUES (:ticker, 'USD', '2013-01-02', 'csv')"
                    ),
                    {"ticker": ticker},
                )
                connection.execute(
                    text(
                        "INSERT INTO raw_stock_data (ticker, session, open, high, low, close, "
                        "volume, source) VALUES (:ticker, '2013-01-02', 1, 1, 1, 1, 1, 'csv')"
                    ),
                    {"ticker": ticker},
                )
        yield made


@pytest.fixture
def serving(installation: Installation, tmp_path: Path) -> Iterator[Service]:
    """A service that reads the installation's database and does not hold it up."""
    reader = installation.address("stock_assets").set(username=READER)
    address = {READER_VARIABLE: reader.render_as_string(hide_password=False)}
    with begin_serve(installation.environment, tmp_path, **address) as service:
        yield service


class Asking:
    """Threads that ask without end, and what they were answered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(path,)) for path in PATHS * 2]
        self.answers: dict[str, list[httpx.Response]] = {path: [] for path in PATHS}
        self.failures: list[Exception] = []

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, path: str) -> None:
        with self._service.client() as client:
            while not self._enough.wait(0.01):
                try:
                    self.answers[path].append(client.get(path))
                except httpx.HTTPError as error:
                    self.failures.append(error)


def test_requests_are_told_to_come_back_and_are_answered_when_it_is(
    installation: Installation, serving: Service
):
    with serving.client() as client:
        right = {path: client.get(path).content for path in PATHS}
        with Asking(serving) as asking:
            for _ in range(2):
                installation.succeed("db", "stop")
                wait_until(
                    lambda: all(client.get(path).status_code == 503 for path in PATHS), 20, "away"
                )
                assert client.get("/healthz").status_code == 200
                assert "stock_assets_database_up 0.0" in client.get("/metrics").text
                installation.succeed("db", "start")
                wait_until(
                    lambda: all(client.get(path).status_code == 200 for path in PATHS), 20, "back"
                )
    assert serving.process.poll() is None
    assert not asking.failures
    for path, answers in asking.answers.items():
        assert {answer.status_code for answer in answers} == {200, 503}
        for answer in answers:
            if answer.status_code == 200:
                assert answer.content == right[path]
            else:
                assert answer.headers["retry-after"] == "5"
                assert "psycopg2" not in answer.text
                assert "content-security-policy" in answer.headers
    assert "Traceback" not in serving.log.read_text()


def test_the_database_can_be_away_when_nobody_asks(installation: Installation, serving: Service):
    with serving.client() as client:
        assert client.get("/tickers").status_code == 200
        installation.succeed("db", "stop")
        installation.succeed("db", "start")
        assert client.get("/tickers").json()["tickers"] == ["IBM", "MSFT"]


def test_serving_ends_well_without_a_database(installation: Installation, serving: Service):
    installation.succeed("db", "stop")
    assert serving.stop() == 0
