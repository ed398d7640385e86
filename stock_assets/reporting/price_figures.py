"""Figures of prices and of the forecasts beside them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pandas as pd

from stock_assets.market import calendar
from stock_assets.reporting import charts
from stock_assets.reporting.charts import Chart

MAX_CANDLES = 300
"""More candles than this would be narrower than a pixel or two."""


def price_figure(bars: pd.DataFrame, forecasts: pd.DataFrame) -> Chart:
    """Draw candles (a line of closes for many sessions), volume and the newest forecast.

    Parameters
    ----------
    bars : DataFrame
        Bars of a ticker on one basis, oldest first, at least one.
    forecasts : DataFrame
        The horizons of its newest forecast, columns of ``predictions``; may be empty.
    """
    rising = bars["close"] >= bars["open"]
    colours = [charts.UP if up else charts.DOWN for up in rising]
    volume = charts.bars(bars["session"], bars["volume"], "volume", colours, opacity=0.45) | {
        "yaxis": "y2",
        "hovertemplate": "%{y:,.3s}<extra>volume</extra>",
        "showlegend": False,
    }
    drawn = charts.figure([volume, _prices(bars), *_newest_forecast(forecasts)], "price, $")
    layout = drawn["layout"]
    layout["xaxis"] |= {
        "rangebreaks": _closed_days(bars["session"], forecasts),
        "rangeslider": {"visible": False},
        "anchor": "y2",
    }
    layout["yaxis"]["domain"] = [0.24, 1]
    layout["yaxis2"] = {
        **charts.axis("volume"),
        "domain": [0, 0.18],
        "nticks": 3,
        "tickformat": "~s",
        "rangemode": "tozero",
    }
    return drawn


def _prices(bars: pd.DataFrame) -> Chart:
    if len(bars) > MAX_CANDLES:
        return charts.line(bars["session"], bars["close"], "close", charts.INK, width=1.2)
    prices = {name: charts.values(bars[name], 4) for name in ("open", "high", "low", "close")}
    return {
        "type": "candlestick",
        "name": "price",
        "x": charts.labels(bars["session"]),
        **prices,
        "increasing": {"line": {"color": charts.UP, "width": 1}, "fillcolor": charts.SURFACE},
        "decreasing": {"line": {"color": charts.DOWN, "width": 1}, "fillcolor": charts.DOWN},
        "showlegend": False,
    }


def _newest_forecast(forecasts: pd.DataFrame) -> list[Chart]:
    """Draw the forecast with its intervals as a fan: the smaller the coverage, the thicker."""
    predicted = forecasts["predicted_price"]
    levels = _interval_bounds(forecasts)
    drawn = []
    for place, (coverage, bounds) in enumerate(levels.items()):
        interval = {
            "type": "data",
            "symmetric": False,
            "array": charts.values(bounds["upper"] - predicted, 4),
            "arrayminus": charts.values(predicted - bounds["lower"], 4),
            "color": charts.MODEL,
            "thickness": 2 + 3 * (len(levels) - 1 - place),
            "width": 5 if place == len(levels) - 1 else 0,
        }
        marks = charts.markers(
            forecasts["target_session"],
            predicted,
            "newest forecast, with its intervals" if not place else f"{coverage:.0%} interval",
            charts.MODEL,
            symbol="diamond",
            size=9,
        )
        drawn.append(marks | {"error_y": interval, "showlegend": not place})
    return drawn


def _interval_bounds(forecasts: pd.DataFrame) -> dict[float, pd.DataFrame]:
    """Return lower and upper bounds by coverage, ascending, on the basis of the prices."""
    shown = forecasts["coverage"].max()
    bounds = forecasts[["lower_price", "upper_price"]].set_axis(["lower", "upper"], axis=1)
    texts = forecasts.get("intervals", pd.Series(dtype=object))
    if texts.empty or texts.isna().any():
        return {shown: bounds}
    rows = [json.loads(text) for text in texts]
    basis = forecasts["upper_price"] / [levels[-1]["upper"] for levels in rows]
    return {
        levels[0]["coverage"]: pd.DataFrame(
            {side: basis * [level[side] for level in levels] for side in ("lower", "upper")}
        )
        for levels in zip(*rows, strict=True)
    }


def forecast_figures(rows: pd.DataFrame) -> list[Chart]:
    """Draw :func:`forecast_figure` of each ticker, one session ahead, with a title.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts; those of longer horizons are ignored.
    """
    return [
        forecast_figure(
            part.sort_values("session"),
            f"{ticker}: forecast of each session's close, made one session before",
        )
        for ticker, part in rows[rows["horizon"] == 1].groupby("ticker")
    ]


def forecast_figure(scored: pd.DataFrame, title: str | None = None) -> Chart:
    """Draw the forecasts of a ticker with their intervals, persistence and the actual closes.

    Parameters
    ----------
    scored : DataFrame
        Scored forecasts of a ticker on one basis, oldest first: ``session``, ``actual``,
        ``predicted``, ``persistence``, ``lower``, ``upper``, ``covered``.
    title : str, optional
        Heading on a report page.
    """
    days = charts.labels(scored["session"])
    outside = scored[scored["covered"] == 0]
    traces = [
        *charts.band(days, scored["lower"], scored["upper"], "interval"),
        charts.line(days, scored["persistence"], "persistence", charts.PERSISTENCE, width=1),
        charts.line(days, scored["actual"], "actual", charts.INK),
        charts.line(days, scored["predicted"], "forecast", charts.MODEL, "dot"),
        charts.markers(
            outside["session"],
            outside["actual"],
            "outside the interval",
            charts.LIMIT,
            symbol="x",
            size=8,
        ),
    ]
    drawn = charts.figure(traces, "price, $", title=title)
    drawn["layout"]["xaxis"]["rangebreaks"] = _closed_days(scored["session"])
    return drawn


def _closed_days(sessions: pd.Series[Any], forecasts: pd.DataFrame | None = None) -> list[Chart]:
    """Return the range breaks that omit days without trading."""
    if sessions.empty:
        return []
    last = sessions.max()
    if forecasts is not None and not forecasts.empty:
        last = max(last, forecasts["target_session"].max())
    closed = calendar.closures(sessions.min().date(), last.date() + timedelta(days=1))
    return [{"bounds": ["sat", "mon"]}, {"values": [str(day) for day in closed]}]
