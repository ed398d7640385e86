"""A ticker's page."""

from __future__ import annotations

import json

import httpx
import pytest
from playwright.sync_api import Page
from sqlalchemy import Engine

from stock_assets.market import calendar
from stock_assets.service.pages import formatting
from stock_assets.service.pages.ticker import ticker_page
from stock_assets.storage.forecasts import (
    predictions_as_of,
    promotion_of,
    read_performance,
    save_predictions,
)
from stock_assets.storage.prices import read_bars
from stock_assets_tests.conftest import DATASET, LAST_INGESTED, REPLAYED, Loop
from stock_assets_tests.service.conftest import state_for
from stock_assets_tests.service.pages.conftest import Visit, table
from stock_assets_tests.storage.examples import DAYS, bars, forecasts, store_bars


def figure(page: Page, name: str) -> dict[str, list[dict[str, object]]]:
    drawn: dict[str, list[dict[str, object]]] = json.loads(
        str(page.locator(f"#{name}-data").text_content())
    )
    return drawn


@pytest.mark.parametrize(("chosen", "sessions"), [("1M", 21), ("3M", 63), ("1Y", 252)])
def test_the_range_says_how_many_sessions_are_drawn(
    read: Visit, loop: Loop, chosen: str, sessions: int
) -> None:
    page = read(f"/ticker/AAPL?range={chosen}")
    first = calendar.previous_session(LAST_INGESTED, sessions - 1)
    bars = read_bars(loop.store.engine, first, LAST_INGESTED, ["AAPL"])
    volume, candles, _ = figure(page, "prices")["data"]
    assert candles["close"] == bars["close"].round(4).tolist()
    assert volume["y"] == bars["volume"].tolist()
    assert page.locator(".ranges [aria-current]").inner_text() == chosen


def test_the_whole_history_is_a_line_of_closes_in_the_shares_of_the_newest(read: Visit) -> None:
    closes = figure(read("/ticker/AAPL?range=All"), "prices")["data"][1]
    assert closes["type"] == "scatter"
    drawn = closes["y"]
    assert isinstance(drawn, list)
    assert len(drawn) == 3270
    assert drawn[0] == pytest.approx(130.31 / 4, abs=0.01)  # splits of 2000 and 2005


def test_forecasts_that_came_due_are_the_stored_ones(visit: Visit, loop: Loop) -> None:
    page = visit("/ticker/IBM")
    page.get_by_text("Forecasts and outcomes as a table").press("Enter")
    rows = table(page, "#scored")
    scored = read_performance(loop.store.engine, *REPLAYED).query("ticker == 'IBM'")
    assert len(rows) == len(scored)
    for row, stored in zip(rows, scored.iloc[::-1].itertuples(), strict=True):
        assert row == [
            f"{stored.session:%Y-%m-%d}",
            *(formatting.price(getattr(stored, name)) for name in ("actual", "predicted")),
            *(formatting.price(getattr(stored, name)) for name in ("lower", "upper")),
            formatting.percent(stored.absolute_percentage_error),
            formatting.percent(stored.persistence_absolute_error / stored.actual),
            "yes" if stored.covered else "no",
            str(stored.model_version),
        ]


def test_charts_are_drawn_and_told(visit: Visit) -> None:
    page = visit("/ticker/AAPL")
    for name in ("prices", "outcomes", "errors"):
        place = page.locator(f"#{name}")
        place.locator("svg.main-svg").first.wait_for()
        assert place.get_attribute("role") == "img"
        assert page.locator(f"#{name}-said").inner_text()
    assert page.locator("#prices .boxlayer path").count() > 0


def test_charts_follow_the_theme(visit: Visit) -> None:
    page = visit("/ticker/AAPL")
    line = page.locator("#errors .scatterlayer path.js-line").first
    light = line.evaluate("line => getComputedStyle(line).stroke")
    page.get_by_role("button", name="Dark theme").click()
    assert line.evaluate("line => getComputedStyle(line).stroke") != light


def test_the_newest_forecast_leads_back_to_its_rows(read: Visit, loop: Loop) -> None:
    told = read("/ticker/AAPL").locator("ol.lineage").inner_text()
    made = predictions_as_of(loop.store.engine, [REPLAYED[1]]).set_index("ticker").loc["AAPL"]
    decided = promotion_of(loop.store.engine, DATASET)
    assert decided is not None
    for part in (
        formatting.price(made["predicted_price"]),
        str(made["dagster_run_id"])[:8],
        f"Version {made['model_version']}",
        decided.mlflow_run_id[:8],
        DATASET,
        "30 bars of AAPL",
    ):
        assert part in told


def test_the_lineage_as_json_and_the_decision_are_one_link_away(visit: Visit) -> None:
    page = visit("/ticker/AAPL")
    address = page.get_by_role("link", name="lineage of this forecast").get_attribute("href")
    assert address == f"/api/v1/lineage/forecast/{REPLAYED[1]}/AAPL?horizon=1"
    page.get_by_role("link", name="promoted").click()
    page.wait_for_url("**/models#decision-1")
    assert page.locator("#decision-1").is_visible()


def test_an_unknown_ticker_is_a_page_that_says_so(client: httpx.Client) -> None:
    answered = client.get("/ticker/%3Cscript%3E", headers={"Accept": "text/html"})
    assert answered.status_code == 404
    assert answered.headers["content-type"].startswith("text/html")
    assert "&lt;script&gt;" in answered.text
    assert "<script>" not in answered.text.split("<main", 1)[1]


@pytest.mark.parametrize("name", ["%00", "IBM%00", "aapl", "A%0AB", "NONE", "%5EGSPC", "A" * 5000])
def test_whatever_is_no_ticker_is_not_found(client: httpx.Client, name: str) -> None:
    assert client.get(f"/ticker/{name}").status_code == 404


def test_a_forecast_from_before_a_split_is_drawn_in_the_shares_of_the_candles(
    engine: Engine,
) -> None:
    store_bars(engine, bars(["AAPL"], DAYS[:-1]))
    store_bars(engine, bars(["AAPL"], DAYS[-1:], close=25.0).assign(stock_splits=4.0))
    save_predictions(engine, forecasts(DAYS[-2:-1], ["AAPL"]), DAYS[-2:-1], 1)
    page = ticker_page(state_for(engine), "AAPL", "1M").body.decode()
    drawn = json.loads(page.split('id="prices-data">')[1].split("</script>")[0])
    assert drawn["data"][2]["y"] == [pytest.approx(101.5 / 4, abs=1e-4)]
    assert f"{formatting.price(101.5 / 4)}</p>" in page


@pytest.mark.parametrize("query", ["range=2Y", "other=1", "range=1M&range=3M&x"])
def test_what_the_page_does_not_know_is_refused(client: httpx.Client, query: str) -> None:
    assert client.get(f"/ticker/AAPL?{query}").status_code == 422
