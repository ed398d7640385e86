"""Tables and figures on one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import pandas as pd

from stock_assets.reporting.charts import Chart

_HEIGHT = 340
"""Pixels of a figure."""


def page(
    title: str,
    summary: str,
    figures: Iterable[Chart],
    tables: Iterable[tuple[str, pd.DataFrame]] = (),
) -> str:
    """Render a page that loads nothing from elsewhere.

    A figure is drawn when it is scrolled into view, or before printing, so a page of five hundred
    opens as fast as one of five. Its title is a heading, which a search finds before it is drawn.

    Parameters
    ----------
    title, summary : str
        Plain text; line breaks of the summary are kept.
    figures : iterable of dict
        ``data`` and ``layout`` for plotly.js, each with a title.
    tables : iterable of (str, DataFrame)
        Headings and tables, shown before the figures; an undefined number is an empty cell.
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
    cells = table.astype(object).where(table.notna(), "")
    rows = cells.to_html(index=False, border=0, float_format="{:.4g}".format)
    return f'<section><h2>{escape(heading)}</h2><div class="table">{rows}</div></section>'


def _figure_section(figure: Chart) -> str:
    """Embed a figure as JSON, without the template, which the page holds once."""
    from plotly.io.json import to_json_plotly

    layout = {name: value for name, value in figure["layout"].items() if name != "template"}
    heading = layout.pop("title")["text"]
    embedded = to_json_plotly({"data": figure["data"], "layout": layout})
    return (
        f'<section class="figure"><h2>{escape(heading)}</h2>'
        f'<div style="height: {_HEIGHT}px"></div>'
        f'<script type="application/json">{embedded}</script></section>'
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ --ink: #1f2933; --soft: #4d5a69; --line: #dfe4ea; --surface: #ffffff; --model: #c2410c;
        --model-band: rgba(194, 65, 12, 0.15); --persistence: #64748b; --limit: #b91c1c; }}
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
const style = getComputedStyle(document.documentElement);
const coloured = (json) =>
  json.replace(/var\\((--[a-z-]+)\\)/g, (_, name) => style.getPropertyValue(name));
function draw(section) {{
  const embedded = section.querySelector("script");
  if (embedded === null) return;
  embedded.remove();
  const {{data, layout}} = JSON.parse(coloured(embedded.textContent));
  Plotly.newPlot(section.querySelector("div"), data, {{...layout, template}}, {{responsive: true}});
}}
const visible = new IntersectionObserver(
  (changes) => changes.filter((change) => change.isIntersecting)
    .forEach((change) => draw(change.target)),
  {{rootMargin: "50%"}},
);
sections.forEach((section) => visible.observe(section));
addEventListener("beforeprint", () => sections.forEach(draw));
</script>
</body>
</html>
"""
