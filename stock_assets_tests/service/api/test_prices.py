"""Bars on each price basis, now and as they were known."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import httpx
import pandas as pd
import pytest
from sqlalchemy import Engine

from stock_assets.config import Basis
from stock_assets.market.adjustment import adjust
from stock_assets.service.app import create_app
from stock_assets.storage.prices import read_bars
from stock_assets_tests.conftest import FIRST_INGESTED, LAST_INGESTED, Loop
from stock_assets_tests.service.api.client import assert_row, get, get_all, get_problem, select
from stock_assets_tests.service.conftest import send, state_for
from stock_assets_tests.storage.examples import DAYS, bars, store_bars


@pytest.mark.parametrize("ticker", ["AAPL", "FB"])
def test_raw_bars_are_the_stored_ones(client: httpx.Client, loop: Loop, ticker: str) -> None:
    stored = select(
        loop.store.engine,
        "SELECT * FROM raw_stock_data WHERE ticker = :ticker ORDER BY session DESC",
        ticker=ticker,
    )
    items = get_all(client, f"/prices/{ticker}", basis="raw", limit=1000)
    for item, row in zip(items, stored, strict=True):
        assert_row(item, row, "known_since", "actions_known_since")


@pytest.mark.parametrize("basis", ["split_adjusted", "adjusted"])
@pytest.mark.parametrize("ticker", ["AAPL", "MSFT"])
def test_adjusted_bars_are_as_of_the_newest_session(
    client: httpx.Client, loop: Loop, ticker: str, basis: Basis
) -> None:
    stored = read_bars(loop.store.engine, FIRST_INGESTED, LAST_INGESTED, [ticker])
    expected = adjust(stored, basis, LAST_INGESTED).drop(columns="ticker")
    items = pd.DataFrame(get_all(client, f"/prices/{ticker}", basis=basis, limit=1000))
    items = items.drop(columns=["known_since", "actions_known_since"])
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


def fetch(engine: Engine, status: int = 200, ticker: str = "A", **parameters: object) -> Any:
    """Request the raw prices of a ticker of a small store."""
    query = urlencode({"basis": "raw", **parameters})
    response = send(create_app(state_for(engine)), f"/api/v1/prices/{ticker}?{query}")
    assert response.status_code == status, response.text
    return response.json()


def raised(by: float) -> pd.DataFrame:
    """The example's bars, the last two of them at another price."""
    frame = bars("A")
    last = frame["session"] >= pd.Timestamp(DAYS[-2])
    prices = ["open", "high", "low", "close"]
    frame.loc[last, prices] += by
    return frame


def test_prices_are_shown_as_they_were_known(engine: Engine) -> None:
    store_bars(engine, bars("A"))
    before = fetch(engine)
    store_bars(engine, raised(1.0))
    after = fetch(engine)
    assert fetch(engine, known_at=before["known_at"]) == before
    assert fetch(engine, known_at=after["known_at"]) == after
    assert after["link"] == before["link"] + 1
    changed = [
        then["session"]
        for then, now in zip(before["items"], after["items"], strict=True)
        if then != now
    ]
    assert changed == [str(day) for day in DAYS[:-3:-1]]
    since = {item["session"]: item["known_since"] for item in after["items"]}
    assert since[str(DAYS[0])] == before["known_at"] < since[str(DAYS[-1])] == after["known_at"]


def test_all_pages_show_the_prices_known_when_the_first_was_read(engine: Engine) -> None:
    store_bars(engine, bars("A"))
    whole = fetch(engine)
    first = fetch(engine, limit=1)
    store_bars(engine, raised(1.0))
    rest = fetch(engine, cursor=first["next"])
    assert first["items"] + rest["items"] == whole["items"]
    assert (rest["link"], rest["known_at"]) == (first["link"], first["known_at"])


def test_a_session_can_be_looked_at_from_an_earlier_one(engine: Engine) -> None:
    split = bars("A")
    split.loc[split["session"] == pd.Timestamp(DAYS[8]), "stock_splits"] = 2.0
    store_bars(engine, split)
    page = fetch(engine, basis="adjusted", as_of=DAYS[7])
    assert page["as_of_session"] == str(DAYS[7])
    assert page["items"][0]["close"] == split["close"][7]
    assert fetch(engine, basis="adjusted")["items"][-8]["close"] == split["close"][7] / 2


@pytest.mark.parametrize("moment", ["2000-01-01T00:00:00Z", "2999-01-01T00:00:00+01:00"])
def test_a_moment_outside_the_record_is_not_found(engine: Engine, moment: str) -> None:
    store_bars(engine, bars("A"))
    assert fetch(engine, 404, known_at=moment)["detail"]


@pytest.mark.parametrize(
    "moment", ["2026-11-30T21:00:00", "2026-11-30", "1790000000", "9999-12-31T23:59:59-23:00", ""]
)
def test_a_moment_without_a_time_zone_is_rejected(engine: Engine, moment: str) -> None:
    (invalid,) = fetch(engine, 422, known_at=moment)["errors"]
    assert invalid["where"] == "query.known_at"
    assert "2026-11-30T21:00:00Z" in invalid["why"]


def test_a_ticker_is_unknown_before_its_first_bar_is_stored(engine: Engine) -> None:
    store_bars(engine, bars("A"))
    before = fetch(engine)["known_at"]
    store_bars(engine, bars("B"))
    assert fetch(engine, ticker="B")["items"]
    assert "B" in fetch(engine, 404, ticker="B", known_at=before)["detail"]
    fetch(engine, 404, ticker="B", as_of="2012-01-03")
