"""A Yahoo on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stock_assets_tests.market import yahoo_loopback
from stock_assets_tests.pipeline.ingested import LAST, evening, traded


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[yahoo_loopback.Yahoo]:
    folder = tmp_path_factory.mktemp("yahoo")
    with yahoo_loopback.serve(traded(), evening(LAST), folder) as running, running.reached():
        yield running


@pytest.fixture
def yahoo(server: yahoo_loopback.Yahoo) -> yahoo_loopback.Yahoo:
    """The server with sound data of all sessions."""
    server.list_anew(traded())
    server.now = evening(LAST)
    return server
