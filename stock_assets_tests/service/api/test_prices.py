"""Prices on every basis."""

from __future__ import annotations

import httpx
import pandas as pd
import pytest

from stock_assets.config import Basis
from stock_assets.market.adjustment import adjust
from stock_assets.storage.prices import read_bars
from stock_assets_tests.conftest import FIRST_INGESTED, LAST_INGESTED, Loop
from stock_assets_tests.service.api.asking import ask, refuse, require_row, rows, walk

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ticker", ["AAPL", "FB"])
def test_raw_prices_are_the_stored_ones(client: httpx.Client, loop: Loop, ticker: str) -> None:
    held = rows(
        loop.store.engine,
        "SELECT * FROM raw_stock_data WHERE ticker = :ticker ORDER BY session DESC",
        ticker=ticker,
    )
    items = walk(client, f"/prices/{ticker}", basis="raw", limit=1000)
    for item, row in zip(items, held, strict=True):
        require_row(item, row)


@pytest.mark.parametrize("basis", ["split_adjusted", "adjusted"])
@pytest.mark.parametrize("ticker", ["AAPL", "MSFT"])
def test_adjusted_prices_are_seen_from_the_newest_session(
    client: httpx.Client, loop: Loop, ticker: str, basis: Basis
) -> None:
    stored = read_bars(loop.store.engine, FIRST_INGESTED, LAST_INGESTED, [ticker])
    expected = adjust(stored, basis, LAST_INGESTED).drop(columns="ticker")
    items = pd.DataFrame(walk(client, f"/prices/{ticker}", basis=basis, limit=1000))
    told = items.assign(session=pd.to_datetime(items["session"]).astype("datetime64[ns]"))
    pd.testing.assert_frame_equal(told[::-1].reset_index(drop=True), expected, check_exact=True)
    assert not told["close"].equals(stored["close"][::-1].reset_index(drop=True))


def test_the_last_bar_is_as_traded_on_every_basis(client: httpx.Client) -> None:
    pages = [
        ask(client, "/prices/AAPL", basis=basis, limit=1)
        for basis in ("raw", "split_adjusted", "adjusted")
    ]
    closes = {page["items"][0]["close"] for page in pages}
    assert len(closes) == 1
    assert {page["as_of_session"] for page in pages} == {LAST_INGESTED.isoformat()}
    assert ask(client, "/prices/AAPL", limit=1) == pages[2]


def test_sessions_can_be_chosen_without_moving_a_price(client: httpx.Client) -> None:
    whole = walk(client, "/prices/AAPL", limit=1000)
    bounds = {"session_from": "2005-02-25", "session_to": "2005-03-04"}  # a split lies between
    expected = [item for item in whole if "2005-02-25" <= item["session"] <= "2005-03-04"]
    assert len(expected) == 6
    assert walk(client, "/prices/AAPL", **bounds) == expected


def test_an_unknown_ticker_is_not_found(client: httpx.Client) -> None:
    assert "NONE" in refuse(client, "/prices/NONE", 404)["detail"]


@pytest.mark.parametrize("basis", ["", "Adjusted", "adjusted'--"])
def test_a_basis_is_one_of_three(client: httpx.Client, basis: str) -> None:
    (wrong,) = refuse(client, "/prices/AAPL", 422, basis=basis)["errors"]
    assert wrong["where"] == "query.basis"
