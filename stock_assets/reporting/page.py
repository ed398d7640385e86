"""Tables and figures on one page that can be kept: it fetches nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_USUAL_HEIGHT = 450
"""Pixels of a figure that does not say how high it is."""


def page(
    title: str,
    summary: str,
    figures: Iterable[Figure],
    tables: Iterable[tuple[str, pd.DataFrame]] = (),
) -> str:
    """Lay tables and figures out on one self-contained page.

    A figure is drawn when it is scrolled to, or before printing, so that a page of five hundred
    opens as fast as one of five. Its title is a heading, which the browser finds, drawn or not.

    Parameters
    ----------
    title, summary : str
        Plain text; line breaks in the summary are kept.
    figures : iterable of Figure
        In the order shown, each with a title.
    tables : iterable of (str, DataFrame)
        With their headings, shown before the figures; an empty cell is an undefined number.
    """
    from plotly.io import templates
    from plotly.io.json import to_json_plotly
    from plotly.offline import get_plotlyjs

    sections = [_table_section(heading, table) for heading, table in tables]
    sections += [_figure_section(figure) for figure in figures]
    return _PAGE.format(
        title=escape(title),
        summary=escape(summary),
        body="\n".join(sections),
        plotly=get_plotlyjs(),
        template=to_json_plotly(templates["plotly_white"]),
    )


def _table_section(heading: str, table: pd.DataFrame) -> str:
    shown = table.astype(object).where(table.notna(), "")
    rows = shown.to_html(index=False, border=0, float_format="{:.4g}".format)
    return f'<section><h2>{escape(heading)}</h2><div class="table">{rows}</div></section>'


def _figure_section(figure: Figure) -> str:
    """Keep a figure as JSON; the template, which is the same for all, is on the page once."""
    from plotly.io.json import to_json_plotly

    told = figure.to_dict()
    layout = {name: value for name, value in told["layout"].items() if name != "template"}
    heading = layout.pop("title")["text"]
    kept = to_json_plotly({"data": told["data"], "layout": layout})
    height = layout.get("height", _USUAL_HEIGHT)
    return (
        f'<section class="figure"><h2>{escape(heading)}</h2><div style="min-height: {height}px">'
        f'</div><script type="application/json">{kept}</script></section>'
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 68rem;
        margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }}
pre {{ background: #f5f7fa; padding: 1rem; overflow-x: auto; font-size: 0.85rem;
       white-space: pre-wrap; }}
section {{ margin: 1.5rem 0; }}
h2 {{ font-size: 1rem; margin: 0 0 0.5rem; }}
.table {{ max-height: 32rem; width: fit-content; max-width: 100%; overflow: auto; }}
table {{ border-collapse: collapse; font-size: 0.8rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid #e4e7eb; }}
th {{ position: sticky; top: 0; background: white; }}
@media print {{ .table {{ max-height: none; }} }}
</style>
<script>{plotly}</script>
</head>
<body>
<h1>{title}</h1>
<pre>{summary}</pre>
{body}
<script>
const template = {template};
const sections = document.querySelectorAll(".figure");
function draw(section) {{
  const kept = section.querySelector("script");
  if (kept === null) return;
  kept.remove();
  const {{data, layout}} = JSON.parse(kept.textContent);
  Plotly.newPlot(section.querySelector("div"), data, {{...layout, template}}, {{responsive: true}});
}}
const near = new IntersectionObserver(
  (changes) => changes.filter((one) => one.isIntersecting).forEach((one) => draw(one.target)),
  {{rootMargin: "50%"}},
);
sections.forEach((section) => near.observe(section));
addEventListener("beforeprint", () => sections.forEach(draw));
</script>
</body>
</html>
"""
