"""Figures of prices, panels, forecasts, scores and training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.evaluation.metrics import weekly_coverage
from stock_assets.evaluation.significance import cumulative_difference, loss_difference
from stock_assets.evaluation.skill import session_ics
from stock_assets.market import calendar
from stock_assets.reporting import charts
from stock_assets.reporting.charts import Chart

MAX_CANDLES = 300
"""More candles than this would be narrower than a pixel or two."""


@dataclass(frozen=True)
class Mark:
    """An event on a session, marked by a vertical line."""

    session: date
    text: str


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


def score_figure(
    scores: Sequence[Mapping[str, Any]],
    lines: dict[str, str],
    limits: dict[str, float],
    marks: Sequence[Mark] = (),
    *,
    percent: bool = True,
) -> Chart:
    """Draw rolling scores of each model version with reference levels.

    Parameters
    ----------
    scores : sequence of mappings
        Rows with ``session``, ``model_version`` and scores.
    lines : dict of str to str
        Columns to draw and their names; the first is the model's.
    limits : dict of str to float
        Horizontal lines by name; one far from the scores is omitted.
    marks : sequence of Mark
        Events.
    percent : bool
        Whether the scores are shown in percent.
    """
    frame = pd.DataFrame([dict(row) for row in scores]).sort_values(["model_version", "session"])
    colours = dict(zip(lines, (charts.MODEL, charts.PERSISTENCE), strict=False))
    drawn = frame[list(lines)].astype(float).to_numpy()
    traces = [_version_lines(frame, name, label, colours[name]) for name, label in lines.items()]
    near = {name: value for name, value in limits.items() if is_near(value, drawn)}
    first, last = frame["session"].min(), frame["session"].max()
    styles = zip(near.items(), ("dash", "dot"), strict=False)
    traces += [
        charts.line([str(first), str(last)], [value, value], name, charts.LIMIT, dash, width=1.4)
        | {"hoverinfo": "skip"}
        for (name, value), dash in styles
    ]
    figure = charts.figure(traces)
    figure["layout"]["yaxis"]["tickformat"] = ".2~%" if percent else ".3~f"
    shown = [mark for mark in marks if first <= mark.session <= last]
    figure["layout"]["shapes"] = [_vertical_line(mark) for mark in shown]
    figure["layout"]["annotations"] = [_annotation(mark) for mark in shown]
    return figure


def is_near(limit: float, drawn: NDArray[np.float64]) -> bool:
    """Check whether a level can be drawn without flattening the lines."""
    low, high = np.nanmin(drawn), np.nanmax(drawn)
    room = max(high - low, abs(high) * 0.1)
    return bool(low - 1.5 * room <= limit <= high + 1.5 * room)


def _version_lines(frame: pd.DataFrame, column: str, name: str, colour: str) -> Chart:
    """Draw one line with a gap before each model version."""
    days: list[str | None] = []
    points: list[float | None] = []
    versions: list[str | None] = []
    for version, rows in frame.groupby("model_version"):
        days += [*map(str, rows["session"]), None]
        points += [*charts.values(rows[column]), None]
        versions += [*[f"v{version}"] * len(rows), None]
    dash = "solid" if colour == charts.MODEL else "dash"
    return charts.line(days, [], name, colour, dash) | {
        "y": points,
        "text": versions,
        "connectgaps": False,
        "hovertemplate": f"%{{y}} %{{text}}<extra>{name}</extra>",
    }


def _vertical_line(mark: Mark) -> Chart:
    day = str(mark.session)
    style = {"color": charts.SOFT, "width": 1, "dash": "dot"}
    return {
        **{"type": "line", "x0": day, "x1": day, "yref": "paper", "y0": 0, "y1": 1},
        "line": style,
    }


def _annotation(mark: Mark) -> Chart:
    return {
        "x": str(mark.session),
        **{"yref": "paper", "y": 1, "yanchor": "bottom", "xanchor": "center"},
        "text": mark.text,
        "showarrow": False,
        "font": {"size": 11, "color": charts.SOFT},
    }


def _closed_days(sessions: pd.Series[Any], forecasts: pd.DataFrame | None = None) -> list[Chart]:
    """Return the range breaks that omit days without trading."""
    if sessions.empty:
        return []
    last = sessions.max()
    if forecasts is not None and not forecasts.empty:
        last = max(last, forecasts["target_session"].max())
    closed = calendar.closures(sessions.min().date(), last.date() + timedelta(days=1))
    return [{"bounds": ["sat", "mon"]}, {"values": [str(day) for day in closed]}]


def error_figure(rows: pd.DataFrame, window: int = 10) -> Chart:
    """Draw the rolling mean absolute percentage error of forecasts and of persistence.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts with ``absolute_percentage_error``, ``persistence_absolute_error``,
        ``actual`` and ``session``.
    window : int
        Sessions of the rolling mean.
    """
    errors = pd.DataFrame(
        {
            "session": rows["session"],
            "forecast": rows["absolute_percentage_error"],
            "persistence": rows["persistence_absolute_error"] / rows["actual"],
        }
    )
    daily = 100 * errors.groupby("session").mean()
    rolling = daily.rolling(window, min_periods=1).mean()
    lines = [
        charts.line(rolling.index, rolling[name], name, colour)
        for name, colour in (("forecast", charts.MODEL), ("persistence", charts.PERSISTENCE))
    ]
    title = f"Error over time: mean of all forecasts, rolling over {window} sessions"
    return charts.figure(lines, "absolute error, %", title=title)


def coverage_figure(rows: pd.DataFrame, nominal: float) -> Chart:
    """Draw the share of outcomes inside their intervals, week by week.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts with ``session`` and ``covered``.
    nominal : float
        The coverage aimed at.
    """
    weeks = 100 * weekly_coverage(rows)
    traces = [
        charts.bars(weeks.index, weeks, "inside", charts.MODEL),
        charts.line(weeks.index, [100 * nominal] * len(weeks), "nominal", charts.PERSISTENCE),
    ]
    title = "Coverage by week: outcomes inside their intervals"
    return charts.figure(traces, "% of outcomes", title=title)


def cumulative_figure(scored: Mapping[str, pd.DataFrame]) -> Chart:
    """Draw the cumulative error of each model minus that of persistence.

    The first model has a band of its clustered error: where the band at the last session excludes
    zero, the difference is significant at 5%. Baselines are hidden until their name is clicked,
    as a poor one would flatten the others.

    Parameters
    ----------
    scored : mapping of str to DataFrame
        By name, scored forecasts of the same triples; ``persistence`` among them.
    """
    paths = {
        name: 100
        * cumulative_difference(
            loss_difference(rows, scored["persistence"]), int(rows["horizon"].max())
        )
        for name, rows in scored.items()
    }
    first = next(iter(paths))
    colours = {first: charts.MODEL, "persistence": charts.PERSISTENCE}
    free, visible = cycle(charts.OTHERS), (first, "production", "persistence")
    lines = [
        charts.line(path.index, path["cumulative"], name, colours.get(name) or next(free))
        | {"visible": True if name in visible else "legendonly"}
        for name, path in paths.items()
    ]
    path = paths[first]
    title = "Absolute error minus persistence's, added up over sessions: below 0 is better"
    interval = charts.band(path.index, path["lower"], path["upper"], "95% band")
    return charts.figure([*interval, *lines], "% of price", title=title)


def ic_figure(rows: pd.DataFrame) -> Chart:
    """Draw the information coefficient of each session and its mean.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts. A session in which several horizons end shows the mean of their
        coefficients; the mean line is over all coefficients. Undefined coefficients have no bar.
    """
    each = session_ics(rows)
    ics, mean = each.groupby("session").mean(), each["ic"].mean()
    traces = [
        charts.bars(ics.index, ics["ic"], "IC", charts.PERSISTENCE),
        charts.markers(ics.index, ics["rank_ic"], "rank IC", charts.INK),
        charts.line(ics.index, [mean] * len(ics), "mean IC", charts.MODEL),
    ]
    title = "Correlation of forecast and actual returns over the tickers of each session"
    return charts.figure(traces, "information coefficient", title=title)


def ticker_figure(tickers: pd.DataFrame) -> Chart:
    """Draw the error of each ticker minus persistence's with its 95% interval, best first.

    Without any edge one interval in twenty excludes zero.

    Parameters
    ----------
    tickers : DataFrame
        The rows of one model of :func:`stock_assets.evaluation.scorecard.ticker_table`.
    """
    from scipy.special import stdtrit

    ordered = tickers.sort_values("error_difference").set_index("ticker")
    middle = 100 * ordered["error_difference"]
    reach = 100 * ordered["error_difference_se"] * stdtrit(ordered["sessions"] - 1, 0.975)
    traces = [
        *charts.band(middle.index, middle - reach, middle + reach, "95% interval"),
        charts.markers(middle.index, middle, "ticker", charts.MODEL),
        charts.line(middle.index, 0.0 * middle, "persistence", charts.PERSISTENCE),
    ]
    title = "Absolute error minus persistence's, ticker by ticker: below 0 is better"
    return charts.figure(traces, "% of price", title=title, dates=False)


def training_figure(history: pd.DataFrame) -> Chart:
    """Draw the training and validation loss of each epoch.

    Parameters
    ----------
    history : DataFrame
        ``epoch``, ``train_loss``, ``validation_loss``.
    """
    lines = [
        charts.line(history["epoch"], history[column], name, colour) | {"mode": "lines+markers"}
        for column, name, colour in (
            ("train_loss", "training", charts.INK),
            ("validation_loss", "validation", charts.MODEL),
        )
    ]
    title = "Training curves: loss by epoch"
    return charts.figure(lines, "loss, scaled target", title=title, dates=False)


def validity_figure(
    valid: NDArray[np.bool_], sessions: pd.DatetimeIndex, tickers: Sequence[str]
) -> Chart:
    """Draw which rows (session, ticker) of a panel are masked; `valid` has shape (T, N)."""
    cells = {
        "type": "heatmap",
        "x": charts.labels(sessions),
        "y": list(tickers),
        "z": valid.T.astype(int).tolist(),
        **{"zmin": 0, "zmax": 1, "showscale": False},
        "colorscale": [[0, charts.LIMIT], [1, charts.LINE]],
        "hovertemplate": "%{y}, %{x}<extra></extra>",
    }
    drawn = charts.figure([cells], title="Validity by session and ticker; masked rows are red")
    drawn["layout"] |= {"hovermode": "closest"}
    drawn["layout"]["yaxis"] |= {"type": "category", "autorange": "reversed"}
    return drawn
