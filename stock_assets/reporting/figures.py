"""Plots of forecasts, errors and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.evaluation.significance import cumulative_difference, loss_difference
from stock_assets.evaluation.skill import session_ics

if TYPE_CHECKING:
    from plotly.basedatatypes import BaseTraceType
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
        ``persistence``, ``lower``, ``upper``, in the shares of the day: a split is a step. Those
        of longer horizons are left out.
    """
    nearest = rows[rows["horizon"] == 1]
    return [_forecast_figure(str(ticker), part) for ticker, part in nearest.groupby("ticker")]


def _forecast_figure(ticker: str, rows: pd.DataFrame) -> Figure:
    from plotly.graph_objects import Scatter

    ordered = rows.sort_values("session")
    days = ordered["session"]
    return _figure(
        [
            *_band(ordered.set_index("session"), "interval"),
            Scatter(
                x=days,
                y=ordered["persistence"],
                name="persistence",
                line={"color": _BASELINE, "width": 1},
            ),
            Scatter(x=days, y=ordered["actual"], name="actual", line={"color": _ACTUAL}),
            Scatter(
                x=days,
                y=ordered["predicted"],
                name="forecast",
                line={"color": _MODEL, "dash": "dot"},
            ),
        ],
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
    from plotly.graph_objects import Scatter

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
    return _figure(lines, title, "absolute error, %")


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
    from plotly.graph_objects import Scatter

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
    return _figure([*_band(paths[first], "95% band"), *lines], title, "% of price")


def ic_figure(rows: pd.DataFrame) -> Figure:
    """Draw the information coefficient of each session, with its mean.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts. Where several horizons end in a session, the mean of their coefficients is
        drawn; the mean over all is that of every coefficient. Sessions whose coefficient is
        undefined have no bar.
    """
    from plotly.graph_objects import Bar, Scatter

    each = session_ics(rows)
    ics, mean = each.groupby("session").mean(), each["ic"].mean()
    rank = {"mode": "markers", "marker": {"color": _ACTUAL, "size": 5}}
    drawn = [
        Bar(x=ics.index, y=ics["ic"], name="IC", marker={"color": _BASELINE}),
        Scatter(x=ics.index, y=ics["rank_ic"], name="rank IC", **rank),
        Scatter(
            x=ics.index, y=[mean] * len(ics), name="mean IC", mode="lines", line={"color": _MODEL}
        ),
    ]
    title = "Correlation of forecast and actual returns over the tickers of each session"
    return _figure(drawn, title, "information coefficient")


def ticker_figure(tickers: pd.DataFrame) -> Figure:
    """Draw each ticker's error beside persistence's with its 95% interval, the best first.

    Of tickers without any edge one interval in twenty excludes zero.

    Parameters
    ----------
    tickers : DataFrame
        The rows of one model of :func:`stock_assets.evaluation.scorecard.ticker_table`.
    """
    from plotly.graph_objects import Scatter
    from scipy.special import stdtrit

    ordered = tickers.sort_values("error_difference").set_index("ticker")
    middle = 100 * ordered["error_difference"]
    reach = 100 * ordered["error_difference_se"] * stdtrit(ordered["sessions"] - 1, 0.975)
    bounds = pd.DataFrame({"lower": middle - reach, "upper": middle + reach})
    points = {"mode": "markers", "marker": {"color": _MODEL, "size": 5}}
    even = {"mode": "lines", "line": {"color": _BASELINE}}
    drawn = [
        *_band(bounds, "95% interval"),
        Scatter(x=middle.index, y=middle, name="ticker", **points),
        Scatter(x=middle.index, y=0.0 * middle, name="persistence", **even),
    ]
    title = "Absolute error minus persistence's, ticker by ticker: below 0 is better"
    return _figure(drawn, title, "% of price")


def training_figure(history: pd.DataFrame) -> Figure:
    """Draw the training curves.

    Parameters
    ----------
    history : DataFrame
        ``epoch``, ``train_loss``, ``validation_loss``.
    """
    from plotly.graph_objects import Scatter

    lines = [
        Scatter(x=history["epoch"], y=history[name], name=label, mode="lines+markers")
        for name, label in (("train_loss", "training"), ("validation_loss", "validation"))
    ]
    return _figure(lines, "Training curves: loss by epoch", "loss, scaled target")


def validity_figure(valid: NDArray[np.bool_], sessions: pd.DatetimeIndex) -> Figure:
    """Draw how many tickers have a valid row in each session.

    Parameters
    ----------
    valid : (T, N) bool
        Those of a panel.
    sessions : DatetimeIndex, length T
    """
    from plotly.graph_objects import Scatter

    line = Scatter(x=sessions, y=valid.sum(axis=1), mode="lines", line={"color": _ACTUAL})
    title = f"Tickers with a valid row in each session, of {valid.shape[1]}"
    return _figure([line], title, "tickers")


def _band(bounds: pd.DataFrame, name: str) -> list[Scatter]:
    """Fill between ``lower`` and ``upper``, both indexed by what is below the axis."""
    from plotly.graph_objects import Scatter

    quiet = {"x": bounds.index, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        Scatter(y=bounds["upper"], showlegend=False, **quiet),
        Scatter(y=bounds["lower"], fill="tonexty", fillcolor=_BAND, name=name, **quiet),
    ]


def _figure(traces: Sequence[BaseTraceType], title: str, unit: str) -> Figure:
    from plotly.graph_objects import Figure

    layout = {
        "title": {"text": title},
        "yaxis": {"title": {"text": unit}},
        "height": 340,
        "margin": {"l": 60, "r": 20, "t": 30, "b": 40},
        "legend": {"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"},
        "hovermode": "x unified",
    }
    return Figure(traces, layout)
