"""A database without a row: each page says what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from sqlalchemy import Engine

from stock_assets_tests.browsing import clean_page
from stock_assets_tests.service.conftest import serve_database
from stock_assets_tests.storage.examples import DAYS, bars, store_bars


@pytest.fixture
def nothing(engine: Engine, browser: Browser, project: Path) -> Iterator[Page]:
    with (
        serve_database(engine, project) as address,
        clean_page(browser, address) as page,
    ):
        yield page


def test_every_empty_page_names_the_next_command(nothing: Page) -> None:
    remedies = {
        "/": "stock-assets demo",
        "/performance": "stock-assets retrain",
        "/models": "stock-assets retrain",
        "/operations": "stock-assets backfill raw_prices",
    }
    axe = Axe()
    for path, command in remedies.items():
        nothing.goto(path)
        assert command in nothing.locator(".empty").inner_text()
        found = axe.run(nothing)
        assert found.violations_count == 0, found.generate_report()


def test_prices_without_a_model_ask_for_one(nothing: Page, engine: Engine) -> None:
    store_bars(engine, bars(["AAPL"], DAYS))
    nothing.goto("/")
    assert "stock-assets retrain" in nothing.locator(".notice").inner_text()
    nothing.goto("/ticker/AAPL")
    assert "stock-assets predict" in nothing.locator(".tiles").inner_text()
    assert nothing.locator("#prices svg.main-svg").count() > 0
