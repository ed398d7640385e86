"""The page of tables and figures: everything on it, nothing fetched, drawn when it is seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, Page
from plotly.graph_objects import Figure

from stock_assets.reporting.figures import forecast_figures, ic_figure
from stock_assets.reporting.page import page
from stock_assets_tests.browsing import clean_page
from stock_assets_tests.evaluation.examples import scored_forecasts


def figures_of(tickers: int) -> list[Figure]:
    rows = scored_forecasts(tickers=tickers)
    bounds = {"lower": rows["predicted"] - 1, "upper": rows["predicted"] + 1}
    return forecast_figures(rows.assign(**bounds))


@contextmanager
def opened(browser: Browser, folder: Path, text: str) -> Iterator[Page]:
    file = folder / "page.html"
    file.write_text(text, "utf-8")
    with clean_page(browser, file.as_uri()) as shown:
        shown.goto(file.as_uri())
        yield shown


def drawn(shown: Page) -> list[str]:
    """The headings of the figures that are drawn."""
    return shown.locator(".figure:has(.main-svg) h2").all_inner_texts()


def test_tables_have_empty_cells_for_what_is_undefined() -> None:
    figures = {
        "figure": ["relative_mae", "<icir>", "forecasts"],
        "candidate": [0.99876543, None, 315],
    }
    text = page("Title", "Summary", [], [("Every <model>", pd.DataFrame(figures, dtype=object))])
    assert "<h2>Every &lt;model&gt;</h2>" in text
    cells = re.findall(r"<td>(.*?)</td>", text)
    assert cells == ["relative_mae", "0.9988", "&lt;icir&gt;", "", "forecasts", "315"]
    measured = page("", "", [], [("", pd.DataFrame({"icir": [0.5, np.nan]}))])
    assert re.findall(r"<td>(.*?)</td>", measured) == ["0.5", ""]


def test_it_holds_everything_it_shows() -> None:
    text = page("A title", "First line\nsecond line", figures_of(2))
    assert text.startswith("<!doctype html>")
    assert text.count('<section class="figure">') == 2
    assert "First line\nsecond line" in text
    assert "plotly.js v" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)


def test_what_is_told_is_text_and_not_markup() -> None:
    figure = ic_figure(scored_forecasts())
    figure.update_layout(title={"text": "<i>IC</i>"}, yaxis={"title": {"text": "</script>"}})
    text = page("<b>A & B</b>", "<script>alert('{x}')</script>", [figure])
    assert "<title>&lt;b&gt;A &amp; B&lt;/b&gt;</title>" in text
    assert "alert(&#x27;{x}&#x27;)" in text
    assert "<script>alert" not in text
    assert "<h2>&lt;i&gt;IC&lt;/i&gt;</h2>" in text
    kept = re.search(r'<script type="application/json">(.*)</script></section>', text)
    assert kept is not None
    assert "<" not in kept[1]


def test_a_figure_is_drawn_when_it_is_scrolled_to(browser: Browser, tmp_path: Path) -> None:
    figures = figures_of(60)
    headings = [figure.layout.title.text for figure in figures]
    with opened(browser, tmp_path, page("Sixty", "", figures)) as shown:
        shown.wait_for_selector(".main-svg")
        assert shown.locator("h2").all_inner_texts() == headings
        assert 0 < len(drawn(shown)) < 10
        last = shown.locator(".figure").last
        last.scroll_into_view_if_needed()
        last.locator(".main-svg").first.wait_for()
        assert headings[-1] in drawn(shown)
        assert len(drawn(shown)) < 20


def test_every_figure_is_drawn_before_printing(browser: Browser, tmp_path: Path) -> None:
    figures = figures_of(12)
    with opened(browser, tmp_path, page("Twelve", "", figures)) as shown:
        shown.wait_for_selector(".main-svg")
        shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert len(drawn(shown)) == 12


def test_the_lines_are_those_of_the_figure(browser: Browser, tmp_path: Path) -> None:
    (figure,) = figures_of(1)
    with opened(browser, tmp_path, page("One", "", [figure])) as shown:
        shown.wait_for_selector(".main-svg")
        lines = shown.evaluate(
            "document.querySelector('.figure div').calcdata"
            ".map((points) => [points[0].trace.name, points.map((point) => point.y)])"
        )
    told = [[trace.name, list(trace.y)] for trace in figure.data]
    assert [name for name, _ in lines[2:]] == [name for name, _ in told[2:]]
    for (_, there), (_, here) in zip(lines, told, strict=True):
        np.testing.assert_allclose(there, here)
