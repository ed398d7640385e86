"""Plots of forecasts, errors and training, and the page that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.evaluation.significance import cumulative_difference, loss_difference
from stock_assets.evaluation.skill import session_ics

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

_ACTUAL, _MODEL, _BASELINE = "#1f2933", "#c2410c", "#64748b"
_BAND = "rgba(194, 65, 12, 0.15)"
_OTHERS = ("#0f766e", "#6d28d9", "#a16207", "#be185d")


def forecast_figures(rows: pd.DataFrame) -> list[Figure]:
    """Draw, per ticker, what was forecast one session ahead and what happened.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts: ``session``, ``ticker``, ``horizon``, ``actual``, ``predicted``,
        ``lower``, ``upper``. Those of longer horizons are left out.
    """
    nearest = rows[rows["horizon"] == 1]
    return [_forecast_figure(str(ticker), part) for ticker, part in nearest.groupby("ticker")]


def _forecast_figure(ticker: str, rows: pd.DataFrame) -> Figure:
    from plotly.graph_objects import Figure, Scatter

    ordered = rows.sort_values("session")
    days = ordered["session"]
    return _styled(
        Figure(
            [
                *_band(ordered.set_index("session"), "interval"),
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
    title = f"Error over time: mean of all forecasts, rolling over {window} sessions"
    return _styled(Figure(lines), title, "absolute error, %")


def cumulative_figure(scored: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how the errors of each model add up beside persistence's.

    The first model has a band of its clustered error: where the band at the last session excludes
    zero, the difference is significant at 5%. Baselines are drawn when their name is clicked: a
    poor one would leave the others no room.

    Parameters
    ----------
    scored : mapping of str to DataFrame
        By name, scored forecasts of the same triples; ``persistence`` among them.
    """
    from plotly.graph_objects import Figure, Scatter

    paths = {
        name: 100
        * cumulative_difference(
            loss_difference(rows, scored["persistence"]), int(rows["horizon"].max())
        )
        for name, rows in scored.items()
    }
    first = next(iter(paths))
    colours = {first: _MODEL, "persistence": _BASELINE}
    free, drawn = iter(_OTHERS), (first, "production", "persistence")
    lines = [
        Scatter(
            x=path.index,
            y=path["cumulative"],
            name=name,
            line={"color": colours.get(name) or next(free)},
            visible=True if name in drawn else "legendonly",
        )
        for name, path in paths.items()
    ]
    title = "Absolute error minus persistence's, added up over sessions: below 0 is better"
    return _styled(Figure([*_band(paths[first], "95% band"), *lines]), title, "% of price")


def ic_figure(rows: pd.DataFrame) -> Figure:
    """Draw the information coefficient of each session, with its mean.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts. Where several horizons end in a session, the mean of their coefficients is
        drawn. Sessions whose coefficient is undefined have no bar.
    """
    from plotly.graph_objects import Bar, Figure, Scatter

    ics = session_ics(rows).groupby("session").mean()
    mean = ics["ic"].mean()
    rank = {"mode": "markers", "marker": {"color": _ACTUAL, "size": 5}}
    drawn = [
        Bar(x=ics.index, y=ics["ic"], name="IC", marker={"color": _BASELINE}),
        Scatter(x=ics.index, y=ics["rank_ic"], name="rank IC", **rank),
        Scatter(
            x=ics.index, y=[mean] * len(ics), name="mean IC", mode="lines", line={"color": _MODEL}
        ),
    ]
    title = "Correlation of forecast and actual returns over the tickers of each session"
    return _styled(Figure(drawn), title, "information coefficient")


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
    return _styled(Figure(lines), "Training curves: loss by epoch", "loss, scaled target")


def validity_figure(valid: NDArray[np.bool_], sessions: pd.DatetimeIndex) -> Figure:
    """Draw how many tickers have a valid row in each session.

    Parameters
    ----------
    valid : (T, N) bool
        Those of a panel.
    sessions : DatetimeIndex, length T
    """
    from plotly.graph_objects import Figure, Scatter

    line = Scatter(x=sessions, y=valid.sum(axis=1), mode="lines", line={"color": _ACTUAL})
    title = f"Tickers with a valid row in each session, of {valid.shape[1]}"
    return _styled(Figure(line), title, "tickers")


def page(
    title: str,
    summary: str,
    figures: Iterable[Figure],
    tables: Iterable[tuple[str, pd.DataFrame]] = (),
) -> str:
    """Lay tables and figures out on one self-contained page; nothing is fetched.

    Parameters
    ----------
    title, summary : str
        Plain text; line breaks in the summary are kept.
    figures : iterable of Figure
        In the order shown.
    tables : iterable of (str, DataFrame)
        With their headings, shown before the figures; an empty cell is an undefined number.
    """
    from plotly.io import to_html
    from plotly.offline import get_plotlyjs

    drawn = "\n".join(
        f"<section>{to_html(figure, include_plotlyjs=False, full_html=False)}</section>"
        for figure in figures
    )
    told = "\n".join(
        f"<section><h2>{escape(heading)}</h2>{_html(table)}</section>" for heading, table in tables
    )
    return _PAGE.format(
        title=escape(title), summary=escape(summary), script=get_plotlyjs(), body=told + drawn
    )


def _html(table: pd.DataFrame) -> str:
    shown = table.astype(object).where(table.notna(), "")
    return shown.to_html(index=False, border=0, float_format="{:.4g}".format)


def _band(bounds: pd.DataFrame, name: str) -> list[Scatter]:
    """Fill between ``lower`` and ``upper``, both indexed by session."""
    from plotly.graph_objects import Scatter

    quiet = {"x": bounds.index, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        Scatter(y=bounds["upper"], showlegend=False, **quiet),
        Scatter(y=bounds["lower"], fill="tonexty", fillcolor=_BAND, name=name, **quiet),
    ]


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
pre {{ background: #f5f7fa; padding: 1rem; overflow-x: auto; font-size: 0.85rem;
       white-space: pre-wrap; }}
section {{ margin: 1.5rem 0; overflow-x: auto; }}
h2 {{ font-size: 1rem; }}
table {{ border-collapse: collapse; font-size: 0.8rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid #e4e7eb; }}
</style>
<script>{script}</script>
</head>
<body>
<h1>{title}</h1>
<pre>{summary}</pre>
{body}
</body>
</html>
"""
