"""Today: what is on the page is what is in the database."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser
from sqlalchemy import Engine

from stock_assets.config import load_params
from stock_assets.evaluation.metrics import by_ticker, summarise
from stock_assets.market import calendar
from stock_assets.reporting.decision_text import edge_text
from stock_assets.service.pages import formatting
from stock_assets.service.pages.model_status import ModelStatus
from stock_assets.service.pages.today import TodayParams, find_everyone, today_page
from stock_assets.storage.forecasts import (
    predictions_as_of,
    promotions,
    recent_performance,
    save_predictions,
)
from stock_assets.storage.prices import read_bars
from stock_assets_tests.browsing import clean_page
from stock_assets_tests.conftest import LAST_INGESTED, REPLAYED, Loop
from stock_assets_tests.service.conftest import serve_database, state_for
from stock_assets_tests.service.pages.conftest import Visit, shown, table
from stock_assets_tests.storage.examples import DAYS, bars, forecasts, store_bars


def test_each_ticker_shows_its_stored_close_forecast_and_error(visit: Visit, loop: Loop) -> None:
    page = visit("/")
    rows = {row[0]: row for row in table(page, "#tickers")}
    made = predictions_as_of(loop.store.engine, [REPLAYED[1]]).set_index("ticker")
    bars = read_bars(loop.store.engine, LAST_INGESTED, LAST_INGESTED).set_index("ticker")
    errors = by_ticker(recent_performance(loop.store.engine, 20, 1)).set_index("ticker")

    assert sorted(rows) == sorted(bars.index)
    for ticker, forecast in made.iterrows():
        _, _, close, predicted, move, interval, _, relative_mae, session = rows[str(ticker)]
        assert close == formatting.price(bars["close"][ticker])
        assert predicted == formatting.price(forecast["predicted_price"])
        change = forecast["predicted_price"] / forecast["last_close"] - 1
        assert move.startswith(formatting.change(change))
        assert interval == (
            f"{formatting.price(forecast['lower_price'])} to "
            f"{formatting.price(forecast['upper_price'])}"
        )
        assert relative_mae == formatting.number(errors["relative_mae"][ticker])
        assert session.startswith(LAST_INGESTED.isoformat())


def test_a_forecast_that_starts_from_an_older_close_says_so(visit: Visit, loop: Loop) -> None:
    page = visit("/")
    made = predictions_as_of(loop.store.engine, [REPLAYED[1]]).set_index("ticker")
    (apple,) = [row for row in table(page, "#tickers") if row[0] == "AAPL"]
    assert f"from {formatting.price(made['last_close']['AAPL'])}" in apple[4]
    assert "forecast is older" in apple[8]
    assert "stock-assets predict" in page.locator(".notice").inner_text()


def test_persistence_and_the_words_of_the_promotion_stand_above_the_forecasts(
    visit: Visit, loop: Loop
) -> None:
    told = visit("/").locator(".trust").inner_text()
    rows = recent_performance(loop.store.engine, 20, 1)
    persistence = (rows["persistence_absolute_error"] / rows["actual"]).mean()
    assert formatting.percent(summarise(rows).mape) in told
    assert formatting.percent(persistence) in told
    promoted, *_ = promotions(loop.store.engine, promoted_only=True)
    decision = promoted.decision
    assert edge_text(decision.edge, decision.against_persistence) in told
    assert "edge over persistence" in told


def test_the_decision_about_the_version_is_one_link_away(visit: Visit) -> None:
    page = visit("/")
    page.locator(".trust").get_by_role("link").press("Enter")
    page.wait_for_url("**/models#decision-*")
    assert page.locator(f"#{urlsplit(page.url).fragment}").is_visible()


def test_a_sparkline_has_a_point_per_session(visit: Visit) -> None:
    lines = visit("/").locator("svg.spark")
    assert lines.count() == 5
    assert len(str(lines.first.locator("polyline").get_attribute("points")).split()) == 60


def test_columns_are_ordered_by_keyboard_alone(visit: Visit) -> None:
    page = visit("/")
    page.locator("thead a", has_text="Last close").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=close**")
    closes = [float(row[2].replace(",", "")) for row in table(page, "#tickers")]
    assert closes == sorted(closes)
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Last close")
    page.locator("th[aria-sort] a").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**order=desc**")
    assert [float(row[2].replace(",", "")) for row in table(page, "#tickers")] == closes[::-1]


@pytest.mark.parametrize(
    "key", ["ticker", "forecast", "move", "interval", "relative_mae", "session"]
)
def test_every_column_orders_the_table_both_ways(read: Visit, key: str) -> None:
    upward = [row[0] for row in table(read(f"/?sort={key}"), "#tickers")]
    downward = [row[0] for row in table(read(f"/?sort={key}&order=desc"), "#tickers")]
    assert sorted(upward) == sorted(downward) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert key == "session" or upward == downward[::-1]


def test_the_first_key_skips_to_the_content(visit: Visit) -> None:
    page = visit("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_typing_narrows_the_table_and_tells_how_many_are_left(visit: Visit) -> None:
    page = visit("/")
    page.get_by_label("Ticker", exact=True).press_sequentially("m")
    assert shown(page, "#tickers") == ["IBM", "MSFT"]
    assert page.get_by_role("status").inner_text() == "2 of 5 tickers"


def test_blanks_around_a_search_are_not_part_of_it(read: Visit) -> None:
    assert shown(read("/?q=+ibm+"), "#tickers") == ["IBM"]


def test_the_theme_is_remembered_from_page_to_page(visit: Visit) -> None:
    page = visit("/")
    page.get_by_role("button", name="Dark theme").press("Enter")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page = visit("/models")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert page.get_by_role("button", name="Light theme").is_visible()


def test_searching_and_ordering_work_without_a_script(service: str, browser: Browser) -> None:
    with clean_page(browser, service, java_script_enabled=False) as page:
        page.goto("/?sort=close&order=desc")
        page.get_by_label("Ticker", exact=True).fill("m")
        page.get_by_role("button", name="Search").click()
        assert page.url.endswith("q=m&sort=close&order=desc")
        names = page.locator("#tickers tbody th")
        assert names.all_inner_texts() == ["IBM", "MSFT"]


def test_a_ticker_is_a_link_to_its_page(visit: Visit) -> None:
    page = visit("/")
    page.locator("#tickers").get_by_role("link", name="IBM").press("Enter")
    page.wait_for_url("**/ticker/IBM")
    assert page.locator("h1").inner_text() == "IBM"


def test_a_forecast_from_before_a_split_is_told_in_the_shares_of_the_close(engine: Engine) -> None:
    ratio = 4.0
    store_bars(engine, bars(["AAPL"], DAYS[:-1]))
    halved = bars(["AAPL"], DAYS[-1:], close=100.1 / ratio).assign(stock_splits=ratio)
    store_bars(engine, halved)
    save_predictions(engine, forecasts(DAYS[-2:-1], ["AAPL"]), DAYS[-2:-1], 1)
    everyone = find_everyone(state_for(engine, "sample"), ModelStatus(None, None), DAYS[-1])
    apple = everyone.loc["AAPL"]
    assert apple["close"] == 100.1 / ratio
    prices = apple[["from", "forecast", "lower", "upper"]]
    assert prices.tolist() == [100 / ratio, 101.5 / ratio, 99.5 / ratio, 103.5 / ratio]
    assert apple["move"] == pytest.approx(0.015)
    assert apple["interval"] == pytest.approx(0.04)


def test_prices_that_should_be_newer_are_said_to_be_late(engine: Engine) -> None:
    store_bars(engine, bars(["AAPL"], DAYS))
    late = "Prices are late by"
    assert late in today_page(state_for(engine, "csv"), TodayParams()).body.decode()
    assert late not in today_page(state_for(engine, "sample"), TodayParams()).body.decode()


def test_late_tickers_unforecast_ones_and_tickers_without_a_bar_say_so(
    browser: Browser, engine: Engine, project: Path
) -> None:
    store_bars(engine, bars(["AAPL"], DAYS))
    store_bars(engine, bars(["IBM"], DAYS[:-2]))
    store_bars(engine, bars(["MSFT"], DAYS))
    save_predictions(engine, forecasts(DAYS[-1:], ["AAPL", "IBM"]), DAYS[-1:], 1)
    with (
        serve_database(engine, project) as address,
        clean_page(browser, address) as page,
    ):
        page.goto("/")
        states = {row[0]: row[8] for row in table(page, "#tickers")}
        assert states["AAPL"] == str(DAYS[-1])
        assert states["IBM"] == f"{DAYS[-3]}late by 2 sessions"
        assert states["MSFT"] == f"{DAYS[-1]}not forecast"
        assert states["GOOG"] == "–no bar in 60 sessions"
        universe = load_params(project / "params.yaml").prices.tickers
        told = page.get_by_role("status").inner_text()
        assert told == f"5 of {len(universe)} tickers, 3 without a bar of {DAYS[-1]}"
        assert "No forecast is scored yet" in page.locator(".trust").inner_text()
        heading = page.locator("h1").inner_text()
        target: date = calendar.next_session(DAYS[-1])
        assert heading == f"Forecasts for {formatting.long_day(target)}"
