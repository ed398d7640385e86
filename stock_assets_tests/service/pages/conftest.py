"""Pages as HTML, and in a browser where scripts matter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from bs4 import BeautifulSoup
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, Page

from stock_assets_tests.browsing import clean_page

PHONE = {"width": 390, "height": 844}

PAGES = {
    "today": "/",
    "ticker": "/ticker/AAPL",
    "performance": "/performance",
    "models": "/models",
    "operations": "/operations",
}

Read = Callable[[str], BeautifulSoup]
Visit = Callable[[str], Page]


@pytest.fixture
def read(client: httpx.Client) -> Read:
    """Read a page of the service on the loop's data."""

    def get(path: str) -> BeautifulSoup:
        response = client.get(path)
        assert response.status_code == 200
        return BeautifulSoup(response.text, "html.parser")

    return get


def parse(page: HTMLResponse) -> BeautifulSoup:
    """Parse a rendered page."""
    return BeautifulSoup(bytes(page.body).decode(), "html.parser")


def text(page: BeautifulSoup, selector: str) -> str:
    """Return the text of the first matching element, with single blanks."""
    element = page.select_one(selector)
    assert element is not None, selector
    return " ".join(element.get_text(" ").split())


def table(page: BeautifulSoup, selector: str) -> list[list[str]]:
    """Return the cells of the body of a table, row by row."""
    return [
        [cell.get_text().strip() for cell in row.select("th, td")]
        for row in page.select(f"{selector} tbody tr")
    ]


def figure(page: BeautifulSoup, name: str) -> dict[str, Any]:
    """Return the figure of a chart."""
    element = page.select_one(f"#{name}-data")
    assert element is not None, name
    drawn: dict[str, Any] = json.loads(element.get_text())
    return drawn


@pytest.fixture
def visit(service: str, browser: Browser) -> Iterator[Visit]:
    """Open a page of the service in a browser."""
    with clean_page(browser, service) as page:

        def go_to(path: str) -> Page:
            response = page.goto(path)
            assert response is not None
            assert response.status == 200
            return page

        yield go_to
