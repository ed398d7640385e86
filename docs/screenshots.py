"""Take screenshots of every dashboard page for ``docs/dashboard.md``: ``make screenshots``.

The script builds a temporary installation from the sample prices with two models, as of the end of
2011 and of 2012, and all forecasts since then. It takes a few minutes and needs Chromium.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "images" / "service"
COMMAND = Path(sys.executable).with_name("stock-assets")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

PAGES = {
    "today": "/",
    "ticker": "/ticker/AAPL?range=3M",
    "performance": "/performance",
    "models": "/models",
    "operations": "/operations",
}
HISTORY = (
    "backfill raw_prices --from 2000-03-01 --to 2013-03-01",
    "retrain --as-of 2011-12-30",
    "backfill predictions performance_log --from 2011-12-30 --to 2012-12-31",
    "retrain --as-of 2012-12-31",
    "backfill predictions performance_log --from 2013-01-02 --to 2013-03-01",
)
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
COLOURS = 256
"""Colours of the palette; it halves the file size without a visible difference."""


def main() -> None:
    """Run the loop, start the service and take the screenshots."""
    with tempfile.TemporaryDirectory(prefix="screenshots_") as name:
        environment = _installation(Path(name))
        try:
            for words in HISTORY:
                subprocess.run([COMMAND, *words.split()], env=environment, check=True)
            _serve_and_capture(environment)
        finally:
            subprocess.run([COMMAND, "db", "stop"], env=environment, check=False)


def _installation(folder: Path) -> dict[str, str]:
    project = folder / "project"
    project.mkdir()
    for name in ("params.yaml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, project)
    return {
        **os.environ,
        "STOCK_ASSETS_PROJECT": str(project),
        "STOCK_ASSETS_HOME": str(folder / "home"),
        "STOCK_ASSETS_DAGSTER_UI": "http://127.0.0.1:3000",
        "STOCK_ASSETS_MLFLOW_UI": "http://127.0.0.1:5000",
    }


def _serve_and_capture(environment: dict[str, str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    service = subprocess.Popen([COMMAND, "serve", "--port", str(port)], env=environment)
    try:
        _wait_for(f"{address}/healthz")
        take(address)
    finally:
        service.terminate()
        service.wait(30)


def _wait_for(url: str) -> None:
    for _ in range(120):
        try:
            urlopen(url).close()  # noqa: S310 - our own address
        except URLError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def take(address: str) -> None:
    """Take screenshots of a running service: light, dark and phone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            _take(browser, address, theme, WIDE, f"-{theme}")
        _take(browser, address, "light", PHONE, "-phone")
        browser.close()


def _take(browser: Browser, address: str, theme: str, size: dict[str, int], ending: str) -> None:
    context = browser.new_context(base_url=address, viewport=size, color_scheme=theme)
    page = context.new_page()
    for name, path in PAGES.items():
        page.goto(path, wait_until="networkidle")
        target = FOLDER / f"{name}{ending}.png"
        page.screenshot(path=target, full_page=size is WIDE)
        with Image.open(target) as image:
            image.convert("RGB").quantize(COLOURS).save(target, optimize=True)
        sys.stdout.write(f"{target.relative_to(ROOT)} {target.stat().st_size // 1024} kB\n")
    context.close()


if __name__ == "__main__":
    # An argument is the address of a service that is already running.
    take(sys.argv[1]) if len(sys.argv) > 1 else main()
