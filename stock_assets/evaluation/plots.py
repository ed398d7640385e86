"""Plots of forecasts, errors and training, and the page that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_ACTUAL, _MODEL, _BASELINE = "#1f2933", "#c2410c", "#64748b"
_BAND = "rgba(194, 65, 12, 0.15)"


def forecast_figures(rows: pd.DataFrame) -> list[Figure]:
    """Draw, per ticker, what was forecast and what happened.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts: ``session``, ``ticker``, ``actual``, ``predicted``, ``lower``, ``upper``.
    """
    return [_forecast_figure(str(ticker), part) for ticker, part in rows.groupby("ticker")]


def _forecast_figure(ticker: str, rows: pd.DataFrame) -> Figure:
    from plotly.graph_objects import Figure, Scatter

    ordered = rows.sort_values("session")
    days = ordered["session"]
    hidden = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    return _styled(
        Figure(
            [
                Scatter(x=days, y=ordered["upper"], **hidden),
                Scatter(
                    x=days,
                    y=ordered["lower"],
                    fill="tonexty",
                    fillcolor=_BAND,
                    line={"width": 0},
                    hoverinfo="skip",
                    name="interval",
                ),
                Scatter(x=days, y=ordered["actual"], name="actual", line={"color": _ACTUAL}),
                Scatter(
                    x=days,
                    y=ordered["predicted"],
                    name="forecast",
                    line={"color": _MODEL, "dash": "dot"},
                ),
            ]
        ),
        f"{ticker}: forecast of each session's close, made one session before",
        "price, $",
    )


def error_figure(rows: pd.DataFrame, window: int = 10) -> Figure:
    """Draw the mean absolute percentage error per session beside persistence's.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts with ``absolute_percentage_error``, ``persistence_absolute_error``,
        ``actual`` and ``session``.
    window : int
        Sessions of the rolling mean.
    """
    from plotly.graph_objects import Figure, Scatter

    errors = pd.DataFrame(
        {
            "session": rows["session"],
            "forecast": rows["absolute_percentage_error"],
            "persistence": rows["persistence_absolute_error"] / rows["actual"],
        }
    )
    daily = 100 * errors.groupby("session").mean()
    rolling = daily.rolling(window, min_periods=1).mean()
    colours = {"forecast": _MODEL, "persistence": _BASELINE}
    lines = [
        Scatter(x=rolling.index, y=rolling[name], name=name, line={"color": colour})
        for name, colour in colours.items()
    ]
    title = f"Error over time: mean of all tickers, rolling over {window} sessions"
    return _styled(Figure(lines), title, "absolute error, %")


def training_figure(history: pd.DataFrame) -> Figure:
    """Draw the training curves.

    Parameters
    ----------
    history : DataFrame
        ``epoch``, ``train_loss``, ``validation_loss``.
    """
    from plotly.graph_objects import Figure, Scatter

    lines = [
        Scatter(x=history["epoch"], y=history[name], name=label, mode="lines+markers")
        for name, label in (("train_loss", "training"), ("validation_loss", "validation"))
    ]
    return _styled(Figure(lines), "Training curves of the production model", "loss, scaled target")


def page(title: str, summary: str, figures: Iterable[Figure]) -> str:
    """Lay figures out on one self-contained page; Plotly is included, nothing is fetched.

    Parameters
    ----------
    title, summary : str
        Plain text; line breaks in the summary are kept.
    figures : iterable of Figure
        In the order shown.
    """
    from plotly.io import to_html
    from plotly.offline import get_plotlyjs

    drawn = "\n".join(
        f"<section>{to_html(figure, include_plotlyjs=False, full_html=False)}</section>"
        for figure in figures
    )
    return _PAGE.format(
        title=escape(title), summary=escape(summary), script=get_plotlyjs(), figures=drawn
    )


def _styled(figure: Figure, title: str, unit: str) -> Figure:
    layout: Mapping[str, object] = {
        "title": {"text": title, "font": {"size": 15}},
        "yaxis": {"title": {"text": unit}},
        "template": "plotly_white",
        "height": 340,
        "margin": {"l": 60, "r": 20, "t": 50, "b": 40},
        "legend": {"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"},
        "hovermode": "x unified",
    }
    return figure.update_layout(**layout)


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
pre {{ background: #f5f7fa; padding: 1rem; overflow-x: auto; font-size: 0.85rem; }}
section {{ margin: 1.5rem 0; }}
</style>
<script>{script}</script>
</head>
<body>
<h1>{title}</h1>
<pre>{summary}</pre>
{figures}
</body>
</html>
"""
