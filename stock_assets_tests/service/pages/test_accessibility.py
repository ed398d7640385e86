"""Accessibility by axe-core, visible focus, and layout at every size."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from stock_assets_tests.browsing import WIDE
from stock_assets_tests.service.pages.conftest import PAGES, PHONE, Visit

pytestmark = pytest.mark.long

FITS = "document.documentElement.scrollWidth <= innerWidth"

RULES = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


LOOKS = [(theme, size) for theme in ("light", "dark") for size in (WIDE, PHONE)]


def require_no_violation(page: Page, theme: str, size: dict[str, int]) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    page.set_viewport_size(size)  # type: ignore[arg-type]
    found = Axe().run(page, options=RULES)
    assert found.violations_count == 0, f"{theme} {size}\n{found.generate_report()}"
    page.wait_for_function(FITS)


@pytest.mark.parametrize(
    ("path", "look"),
    [(path, LOOKS[place % len(LOOKS)]) for place, path in enumerate(PAGES.values())],
    ids=PAGES.keys(),
)
def test_page_has_no_violation(
    visit: Visit, path: str, look: tuple[str, dict[str, int]], second_retraining: str
) -> None:
    """Every page once, and every theme and window with some page."""
    require_no_violation(visit(path), *look)


@pytest.mark.long
@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES.keys())
def test_page_has_no_violation_in_any_theme_and_size(
    visit: Visit, path: str, second_retraining: str
) -> None:
    page = visit(path)
    for look in LOOKS:
        require_no_violation(page, *look)


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES.keys())
def test_focus_is_visible(visit: Visit, path: str) -> None:
    page = visit(path)
    for _ in range(8):
        page.keyboard.press("Tab")
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert width == "3px"


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES.keys())
def test_page_fits_at_400_percent_zoom(visit: Visit, path: str) -> None:
    page = visit(path)
    page.set_viewport_size({"width": 320, "height": 800})  # 1280 at 400%: WCAG 1.4.10
    page.wait_for_function(FITS)
