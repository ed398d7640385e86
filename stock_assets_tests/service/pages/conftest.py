"""A real browser in front of a real service."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
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

Visit = Callable[[str], Page]


@pytest.fixture
def visit(service: str, browser: Browser) -> Iterator[Visit]:
    """Open a page of the service on the loop's data."""
    with clean_page(browser, service) as page:
        yield lambda path: opened(page, path)


@pytest.fixture
def read(service: str, browser: Browser) -> Iterator[Visit]:
    """Open a page of that service in a browser that runs no script, which is quicker."""
    with clean_page(browser, service, java_script_enabled=False) as page:
        yield lambda path: opened(page, path)


def opened(page: Page, path: str) -> Page:
    """Go to a page that is there."""
    answered = page.goto(path)
    assert answered is not None
    assert answered.status == 200
    return page


def table(page: Page, selector: str) -> list[list[str]]:
    """Read the body of a table as it is shown, cell by cell."""
    rows: list[list[str]] = page.locator(f"{selector} tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    return rows


def shown(page: Page, selector: str) -> list[str]:
    """Read the headings of the rows of a table that are not hidden."""
    names: list[str] = page.locator(f"{selector} tbody tr:not([hidden]) th").all_inner_texts()
    return names
