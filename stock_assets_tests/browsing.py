"""Chromium, and pages that must load without errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = which("chromium") or which("google-chrome")
WIDE = {"width": 1280, "height": 900}
_SLOW = 240_000
"""Milliseconds that a page may take on a loaded machine."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium."""
    assert CHROMIUM is not None, "The pages are tested in Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        # Containers allow no sandbox, and a proxy cannot reach their loopback.
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        yield started
        started.close()


@contextmanager
def clean_page(browser: Browser, address: str, **settings: Any) -> Iterator[Page]:
    """Open a page that must write nothing to the console and request nothing from elsewhere."""
    messages: list[str] = []
    requested: list[str] = []

    def record(message: ConsoleMessage) -> None:
        messages.append(f"{message.type}: {message.text}")

    def follow(request: Request) -> None:
        if urlsplit(request.url).scheme in ("http", "https", "ws", "wss"):
            requested.append(request.url)

    context = browser.new_context(base_url=address, viewport=WIDE, **settings)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_navigation_timeout(_SLOW)
    page.on("console", record)
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", follow)
    yield page
    written = list(messages)  # closing aborts what still loads, which the console reports too
    context.close()
    assert written == [], written
    assert [url for url in requested if not url.startswith(f"{address}/")] == []
