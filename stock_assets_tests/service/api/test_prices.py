"""Bars on each price basis."""

from __future__ import annotations

import httpx
import pandas as pd
import pytest

from stock_assets.config import Basis
from stock_assets.market.adjustment import adjust
from stock_assets.storage.prices import read_bars
from stock_assets_tests.conftest import FIRST_INGESTED, LAST_INGESTED, Loop
from stock_assets_tests.service.api.client import assert_row, get, get_all, get_problem, select


@pytest.mark.parametrize("ticker", ["AAPL", "FB"])
def test_raw_bars_are_the_stored_ones(client: httpx.Client, loop: Loop, ticker: str) -> None:
    stored = select(
        loop.store.engine,
        "SELECT * FROM raw_stock_data WHERE ticker = :ticker ORDER BY session DESC",
        ticker=ticker,
    )
    items = get_all(client, f"/prices/{ticker}", basis="raw", limit=1000)
    for item, row in zip(items, stored, strict=True):
        assert_row(item, row)


@pytest.mark.parametrize("basis", ["split_adjusted", "adjusted"])
@pytest.mark.parametrize("ticker", ["AAPL", "MSFT"])
def test_adjusted_bars_are_as_of_the_newest_session(
    client: httpx.Client, loop: Loop, ticker: str, basis: Basis
) -> None:
    stored = read_bars(loop.store.engine, FIRST_INGESTED, LAST_INGESTED, [ticker])
    expected = adjust(stored, basis, LAST_INGESTED).drop(columns="ticker")
    items = pd.DataFrame(get_all(client, f"/prices/{ticker}", basis=basis, limit=1000))
    found = items.assign(session=pd.to_datetime(items["session"]).astype("datetime64[ns]"))
    pd.testing.assert_frame_equal(found[::-1].reset_index(drop=True), expected, check_exact=True)
    assert not found["close"].equals(stored["close"][::-1].reset_index(drop=True))


def test_last_bar_is_as_traded_on_every_basis(client: httpx.Client) -> None:
    pages = [
        get(client, "/prices/AAPL", basis=basis, limit=1)
        for basis in ("raw", "split_adjusted", "adjusted")
    ]
    closes = {page["items"][0]["close"] for page in pages}
    assert len(closes) == 1
    assert {page["as_of_session"] for page in pages} == {LAST_INGESTED.isoformat()}
    assert get(client, "/prices/AAPL", limit=1) == pages[2]


def test_session_bounds_do_not_change_prices(client: httpx.Client) -> None:
    whole = get_all(client, "/prices/AAPL", limit=1000)
    bounds = {"session_from": "2005-02-25", "session_to": "2005-03-04"}  # a split lies between
    expected = [item for item in whole if "2005-02-25" <= item["session"] <= "2005-03-04"]
    assert len(expected) == 6
    assert get_all(client, "/prices/AAPL", **bounds) == expected


def test_unknown_ticker_is_not_found(client: httpx.Client) -> None:
    assert "NONE" in get_problem(client, "/prices/NONE", 404)["detail"]


@pytest.mark.parametrize("basis", ["", "Adjusted", "adjusted'--"])
def test_invalid_basis_is_rejected(client: httpx.Client, basis: str) -> None:
    (invalid,) = get_problem(client, "/prices/AAPL", 422, basis=basis)["errors"]
    assert invalid["where"] == "query.basis"
