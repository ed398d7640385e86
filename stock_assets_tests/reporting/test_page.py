"""The report page: self-contained, and figures drawn when scrolled to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, Page

from stock_assets.reporting.charts import Chart
from stock_assets.reporting.comparison_figures import ic_figure
from stock_assets.reporting.page import page
from stock_assets.reporting.price_figures import forecast_figures
from stock_assets_tests.browsing import clean_page
from stock_assets_tests.evaluation.examples import scored_forecasts


def figures_of(tickers: int) -> list[Chart]:
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


def test_undefined_numbers_are_empty_cells() -> None:
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


def test_page_loads_nothing_from_elsewhere() -> None:
    text = page("A title", "First line\nsecond line", figures_of(2))
    assert text.startswith("<!doctype html>")
    assert text.count('<section class="figure">') == 2
    assert "First line\nsecond line" in text
    assert "plotly.js v" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)


def test_text_is_escaped() -> None:
    figure = ic_figure(scored_forecasts())
    figure["layout"] |= {"title": {"text": "<i>IC</i>"}, "yaxis": {"title": {"text": "</script>"}}}
    text = page("<b>A & B</b>", "<script>alert('{x}')</script>", [figure])
    assert "<title>&lt;b&gt;A &amp; B&lt;/b&gt;</title>" in text
    assert "alert(&#x27;{x}&#x27;)" in text
    assert "<script>alert" not in text
    assert "<h2>&lt;i&gt;IC&lt;/i&gt;</h2>" in text
    kept = re.search(r'<script type="application/json">(.*)</script></section>', text)
    assert kept is not None
    assert "<" not in kept[1]


def test_figure_is_drawn_when_scrolled_to(browser: Browser, tmp_path: Path) -> None:
    figures = figures_of(60)
    headings = [figure["layout"]["title"]["text"] for figure in figures]
    with opened(browser, tmp_path, page("Sixty", "", figures)) as shown:
        shown.wait_for_selector(".main-svg")
        assert shown.locator("h2").all_inner_texts() == headings
        assert 0 < len(drawn(shown)) < 10
        last = shown.locator(".figure").last
        last.scroll_into_view_if_needed()
        last.locator(".main-svg").first.wait_for()
        assert headings[-1] in drawn(shown)
        assert len(drawn(shown)) < 20


def test_figures_are_drawn_before_printing(browser: Browser, tmp_path: Path) -> None:
    figures = figures_of(12)
    with opened(browser, tmp_path, page("Twelve", "", figures)) as shown:
        shown.wait_for_selector(".main-svg")
        shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert len(drawn(shown)) == 12


def test_lines_have_the_numbers_and_colours(browser: Browser, tmp_path: Path) -> None:
    (figure,) = figures_of(1)
    with opened(browser, tmp_path, page("One", "", [figure])) as shown:
        shown.wait_for_selector(".main-svg")
        lines = shown.evaluate(
            "document.querySelector('.figure div').data"
            ".map((trace) => [trace.name, trace.y, trace.line?.color])"
        )
    assert [name for name, _, _ in lines] == [trace["name"] for trace in figure["data"]]
    for (_, there, colour), trace in zip(lines, figure["data"], strict=True):
        np.testing.assert_allclose(there, trace["y"])
        assert colour is None or colour.strip().startswith(("#", "rgb"))
