"""The scripts of the pages, in a browser that reports errors and foreign requests."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from stock_assets_tests.browsing import clean_page
from stock_assets_tests.service.pages.conftest import PAGES, Visit


def shown_tickers(page: Page) -> list[str]:
    names: list[str] = page.locator("#tickers tbody tr:not([hidden]) th").all_inner_texts()
    return names


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES.keys())
def test_page_loads_without_errors_and_draws_its_charts(visit: Visit, path: str) -> None:
    page = visit(path)
    for chart in page.locator("[data-figure]").all():
        chart.locator("svg.main-svg").first.wait_for()
        assert chart.get_attribute("role") == "img"
        description = chart.get_attribute("aria-describedby")
        assert page.locator(f"#{description}").inner_text()
    assert page.locator("[data-figure]").count() == {"ticker": 3, "performance": 4}.get(
        urlsplit(path).path.split("/")[1], 0
    )


def test_charts_follow_the_theme(visit: Visit) -> None:
    page = visit("/ticker/AAPL")
    line = page.locator("#errors .scatterlayer path.js-line").first
    light = line.evaluate("line => getComputedStyle(line).stroke")
    page.get_by_role("button", name="Dark theme").click()
    assert line.evaluate("line => getComputedStyle(line).stroke") != light


def test_theme_is_remembered(visit: Visit) -> None:
    page = visit("/")
    page.get_by_role("button", name="Dark theme").press("Enter")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page = visit("/models")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert page.get_by_role("button", name="Light theme").is_visible()


def test_columns_are_sorted_by_keyboard(visit: Visit) -> None:
    page = visit("/")
    page.locator("thead a", has_text="Last close").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=close**")
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Last close")
    page.locator("th[aria-sort] a").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**order=desc**")


def test_first_tab_skips_to_the_content(visit: Visit) -> None:
    page = visit("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_typing_filters_the_table(visit: Visit) -> None:
    page = visit("/")
    page.get_by_label("Ticker", exact=True).press_sequentially("m")
    assert shown_tickers(page) == ["IBM", "MSFT"]
    assert page.get_by_role("status").inner_text().startswith("2 of 5")


def test_search_and_sorting_work_without_scripts(service: str, browser: Browser) -> None:
    with clean_page(browser, service, java_script_enabled=False) as page:
        page.goto("/?sort=close&order=desc")
        page.get_by_label("Ticker", exact=True).fill("m")
        page.get_by_role("button", name="Search").click()
        assert page.url.endswith("q=m&sort=close&order=desc")
        assert shown_tickers(page) == ["IBM", "MSFT"]


def test_links_lead_to_the_ticker_and_the_decision(visit: Visit) -> None:
    page = visit("/")
    page.locator("#tickers").get_by_role("link", name="IBM").press("Enter")
    page.wait_for_url("**/ticker/IBM")
    page.locator("ol.lineage").get_by_role("link", name="promoted").click()
    page.wait_for_url("**/models#decision-*")
    assert page.locator(f"#{urlsplit(page.url).fragment}").is_visible()
