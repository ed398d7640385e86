"""The real yfinance against a Yahoo on this machine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stock_assets.config import Yahoo as YahooSettings
from stock_assets.market.bars import PRICE_COLUMNS
from stock_assets.market.sources.sample import load_sample
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets_tests.market import yahoo_loopback

SAMPLE = load_sample().round(dict.fromkeys(PRICE_COLUMNS, 2))
"""Yahoo's 32-bit floats hold whole cents; a few highs and lows of the sample are finer."""

AFTER_THE_SAMPLE = datetime(2013, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def yahoo_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yahoo")
    with yahoo_loopback.serve(SAMPLE, AFTER_THE_SAMPLE, folder) as running:
        yield running


@pytest.fixture
def yahoo(yahoo_server):
    """The server as it was at first: the sample, seen on the day after its last session."""
    yahoo_server.now = AFTER_THE_SAMPLE
    yahoo_server.list_anew(SAMPLE)
    with yahoo_server.reached():
        yield yahoo_server


@pytest.fixture
def open_yahoo(yahoo):
    """Make a source that loses no time, and that lives when the server does."""

    def open_source(**settings):
        quick = {"requests_per_second": 1000.0, "backoff_seconds": 0.01, "timeout_seconds": 20.0}
        return YahooSource(YahooSettings(**(quick | settings)), now=lambda: yahoo.now)

    return open_source


@pytest.fixture
def source(open_yahoo):
    return open_yahoo()
