"""Chromium, and pages that must load without a complaint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = which("chromium") or which("google-chrome")
WIDE = {"width": 1280, "height": 900}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium without a window."""
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
