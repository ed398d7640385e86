"""A real browser in front of a real service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shutil import which
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = which("chromium") or which("google-chrome")
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

PAGES = {
    "today": "/",
    "ticker": "/ticker/AAPL",
    "performance": "/performance",
    "models": "/models",
    "operations": "/operations",
}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium without a window, for the tests of this folder."""
    assert CHROMIUM is not None, "The pages are tested in Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        # A container has neither a namespace of its own to give away nor a proxy on its loopback.
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        yield started
        started.close()


@contextmanager
def clean_page(browser: Browser, address: str, **settings: Any) -> Iterator[Page]:
    """Open a page of a service that must say nothing on the console and ask no one else."""
    said: list[str] = []
    asked: list[str] = []

    def note(message: ConsoleMessage) -> None:
        said.append(f"{message.type}: {message.text}")

    def follow(request: Request) -> None:
        if urlsplit(request.url).scheme in ("http", "https", "ws", "wss"):
            asked.append(request.url)

    context = browser.new_context(base_url=address, viewport=WIDE, **settings)  # type: ignore[arg-type]
    page = context.new_page()
    page.on("console", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", follow)
    yield page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(f"{address}/")] == []


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
