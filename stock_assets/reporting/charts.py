"""Parts of charts as plotly.js takes them: plain mappings, ready for JSON.

A colour is a CSS property of the page that shows the chart, as in ``var(--model)``; the script of
the page replaces it by its value. So a chart follows the theme, and one builder serves every page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

Chart = dict[str, Any]
"""A figure (``data`` and ``layout``) or a part of one."""

INK, SOFT, LINE, SURFACE = "var(--ink)", "var(--soft)", "var(--line)", "var(--surface)"
MODEL, BAND, PERSISTENCE = "var(--model)", "var(--model-band)", "var(--persistence)"
UP, DOWN, LIMIT = "var(--up)", "var(--down)", "var(--limit)"
OTHERS = ("#0f766e", "#6d28d9", "#a16207", "#be185d", "#4d7c0f", "#0369a1")
"""Colours of further models."""


def line(
    x: Iterable[Any], y: Any, name: str, colour: str, dash: str = "solid", *, width: float = 2
) -> Chart:
    """Draw a line; undefined values are gaps."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": labels(x),
        "y": values(y),
        "line": {"color": colour, "width": width, "dash": dash},
    }


def markers(x: Iterable[Any], y: Any, name: str, colour: str, **marker: Any) -> Chart:
    """Draw points."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": labels(x),
        "y": values(y),
        "marker": {"color": colour, "size": 5, **marker},
    }


def bars(x: Iterable[Any], y: Any, name: str, colour: Any, **marker: Any) -> Chart:
    """Draw vertical bars."""
    return {
        "type": "bar",
        "name": name,
        "x": labels(x),
        "y": values(y),
        "marker": {"color": colour, **marker},
    }


def band(x: Iterable[Any], lower: Any, upper: Any, name: str) -> list[Chart]:
    """Fill the area between two lines."""
    x = labels(x)
    edges = line(x, upper, "", BAND, width=0), line(x, lower, name, BAND, width=0)
    return [
        edges[0] | {"showlegend": False, "hoverinfo": "skip"},
        edges[1] | {"fill": "tonexty", "fillcolor": BAND, "hoverinfo": "skip"},
    ]


def figure(
    traces: list[Chart], unit: str | None = None, *, title: str | None = None, dates: bool = True
) -> Chart:
    """Combine traces into a figure.

    Parameters
    ----------
    traces : list of dict
        Drawn in this order.
    unit : str, optional
        Title of the vertical axis.
    title : str, optional
        Heading on a report page.
    dates : bool
        Whether the horizontal axis has dates.
    """
    dated = {"type": "date", "hoverformat": "%a %Y-%m-%d"} if dates else {}
    layout: Chart = {
        "font": {"family": "inherit", "size": 13, "color": SOFT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": SURFACE, "bordercolor": LINE, "font": {"color": INK}},
        "legend": {"orientation": "h", "x": 0, "y": 1.06, "yanchor": "bottom"},
        "xaxis": {**axis(), **dated, "showgrid": False},
        "yaxis": axis(unit),
        "bargap": 0.25,
    }
    if title is not None:
        layout["title"] = {"text": title}
    return {"data": traces, "layout": layout}


def axis(title: str | None = None) -> Chart:
    """Return the layout of an axis."""
    titled = {"title": {"text": title, "standoff": 10}} if title else {}
    return {
        **titled,
        "automargin": True,
        "gridcolor": LINE,
        "linecolor": LINE,
        "zeroline": False,
        "fixedrange": False,
    }


def labels(x: Iterable[Any]) -> list[Any]:
    """Return positions on the horizontal axis; dates as text."""
    if isinstance(x, pd.Series | pd.Index) and pd.api.types.is_datetime64_any_dtype(x):
        x = pd.DatetimeIndex(x).strftime("%Y-%m-%d")
    return list(x)


def values(y: Any, decimals: int = 6) -> list[float | None]:
    """Return rounded numbers as JSON takes them; NaN is None."""
    rounded = np.asarray(y, dtype=float).round(decimals)
    return [None if value != value else value for value in rounded.tolist()]
