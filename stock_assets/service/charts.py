"""Figures of the pages, as plotly.js takes them: plain mappings, ready for JSON.

A colour is the name of a property of the stylesheet, as in ``var(--model)``; the script that draws
the figure puts in what the theme says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.market import calendar

Figure = dict[str, Any]

# More candles than this are narrower than a pixel or two.
MOST_CANDLES = 300

_INK, _SOFT, _LINE = "var(--ink)", "var(--soft)", "var(--line)"
_MODEL, _BAND, _PERSISTENCE = "var(--model)", "var(--model-band)", "var(--persistence)"
_UP, _DOWN, _LIMIT = "var(--up)", "var(--down)", "var(--limit)"


@dataclass(frozen=True)
class Mark:
    """Something that happened on a session."""

    session: date
    text: str


def price_figure(bars: pd.DataFrame, forecasts: pd.DataFrame) -> Figure:
    """Draw candles (closes, where they are many) over volume, and the newest forecast.

    Parameters
    ----------
    bars : DataFrame
        A ticker's bars on one basis, oldest first, at least one.
    forecasts : DataFrame
        Horizons of its newest forecast, columns of ``predictions``; may be empty.
    """
    days = _days(bars["session"])
    rising = bars["close"] >= bars["open"]
    volume = {
        "type": "bar",
        "name": "volume",
        "x": days,
        "y": _values(bars["volume"], 0),
        "yaxis": "y2",
        "marker": {"color": [_UP if up else _DOWN for up in rising], "opacity": 0.45},
        "hovertemplate": "%{y:,.3s}<extra>volume</extra>",
        "showlegend": False,
    }
    figure = _figure([volume, _prices(bars, days), _forecast(forecasts)], "price, $")
    figure["layout"]["xaxis"]["rangebreaks"] = _closed(bars["session"], forecasts)
    figure["layout"]["xaxis"]["rangeslider"] = {"visible": False}
    figure["layout"]["xaxis"]["anchor"] = "y2"
    figure["layout"]["yaxis"]["domain"] = [0.24, 1]
    figure["layout"]["yaxis2"] = {
        **_axis("volume"),
        "domain": [0, 0.18],
        "nticks": 3,
        "tickformat": "~s",
        "rangemode": "tozero",
    }
    return figure


def _prices(bars: pd.DataFrame, days: list[str]) -> Figure:
    if len(bars) > MOST_CANDLES:
        return _line(days, bars["close"], "close", _INK, width=1.2)
    return {
        "type": "candlestick",
        "name": "price",
        "x": days,
        **{name: _values(bars[name], 4) for name in ("open", "high", "low", "close")},
        "increasing": {"line": {"color": _UP, "width": 1}, "fillcolor": "var(--surface)"},
        "decreasing": {"line": {"color": _DOWN, "width": 1}, "fillcolor": _DOWN},
        "showlegend": False,
    }


def _forecast(forecasts: pd.DataFrame) -> Figure:
    predicted = forecasts["predicted_price"]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "newest forecast, with its interval",
        "x": _days(forecasts["target_session"]),
        "y": _values(predicted, 4),
        "marker": {"color": _MODEL, "symbol": "diamond", "size": 9},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": _values(forecasts["upper_price"] - predicted, 4),
            "arrayminus": _values(predicted - forecasts["lower_price"], 4),
            "color": _MODEL,
            "thickness": 2,
            "width": 5,
        },
    }


def forecast_figure(scored: pd.DataFrame) -> Figure:
    """Draw what was forecast one session ahead, with its interval, and what happened.

    Parameters
    ----------
    scored : DataFrame
        A ticker's scored forecasts on one basis, oldest first.
    """
    days = _days(scored["session"])
    outside = scored[scored["covered"] == 0]
    upper = _line(days, scored["upper"], "", _BAND, width=0)
    lower = _line(days, scored["lower"], "interval", _BAND, width=0)
    traces = [
        upper | {"showlegend": False, "hoverinfo": "skip"},
        lower | {"fill": "tonexty", "fillcolor": _BAND, "hoverinfo": "skip"},
        _line(days, scored["actual"], "what happened", _INK),
        _line(days, scored["predicted"], "forecast", _MODEL, dash="dot"),
        _line(_days(outside["session"]), outside["actual"], "outside the interval", _LIMIT)
        | {"mode": "markers", "marker": {"color": _LIMIT, "symbol": "x", "size": 8}},
    ]
    figure = _figure(traces, "price, $")
    figure["layout"]["xaxis"]["rangebreaks"] = _closed(scored["session"])
    return figure


def score_figure(
    scores: Sequence[Mapping[str, Any]],
    lines: dict[str, str],
    limits: dict[str, float],
    marks: Sequence[Mark] = (),
    *,
    percent: bool = True,
) -> Figure:
    """Draw rolling scores of each model version, beside what they are held against.

    Parameters
    ----------
    scores : sequence of mappings
        Rows with ``session``, ``model_version`` and scores.
    lines : dict of str to str
        Columns to draw, with what each is called; the first is the model's own.
    limits : dict of str to float
        Straight lines by what they are called; one that would leave the scores no room is left out.
    marks : sequence of Mark
        What happened when.
    percent : bool
        Whether the scores are fractions to be told in percent.
    """
    frame = pd.DataFrame([dict(row) for row in scores]).sort_values(["model_version", "session"])
    colours = dict(zip(lines, (_MODEL, _PERSISTENCE), strict=False))
    drawn = frame[list(lines)].astype(float).to_numpy()
    traces = [_versions(frame, name, told, colours[name]) for name, told in lines.items()]
    near = {told: value for told, value in limits.items() if within_sight(value, drawn)}
    first, last = frame["session"].min(), frame["session"].max()
    styles = zip(near.items(), ("dash", "dot"), strict=False)
    traces += [
        _line([str(first), str(last)], pd.Series([value, value]), told, _LIMIT, dash, width=1.4)
        | {"hoverinfo": "skip"}
        for (told, value), dash in styles
    ]
    figure = _figure(traces)
    figure["layout"]["yaxis"]["tickformat"] = ".2~%" if percent else ".3~f"
    seen = [mark for mark in marks if first <= mark.session <= last]
    figure["layout"]["shapes"] = [_upright(mark) for mark in seen]
    figure["layout"]["annotations"] = [_told(mark) for mark in seen]
    return figure


def within_sight(limit: float, drawn: NDArray[np.float64]) -> bool:
    """Whether a line can be drawn without flattening the others."""
    low, high = np.nanmin(drawn), np.nanmax(drawn)
    room = max(high - low, abs(high) * 0.1)
    return bool(low - 1.5 * room <= limit <= high + 1.5 * room)


def _versions(frame: pd.DataFrame, name: str, told: str, colour: str) -> Figure:
    """Draw one line with a gap where another version begins."""
    days: list[str | None] = []
    values: list[float | None] = []
    versions: list[str | None] = []
    for version, rows in frame.groupby("model_version"):
        days += [*map(str, rows["session"]), None]
        values += [*_values(rows[name].astype(float), 6), None]
        versions += [*[f"v{version}"] * len(rows), None]
    dash = "solid" if colour == _MODEL else "dash"
    line = {"color": colour, "width": 2, "dash": dash}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": told,
        "x": days,
        "y": values,
        "text": versions,
        "line": line,
        "connectgaps": False,
        "hovertemplate": f"%{{y}} %{{text}}<extra>{told}</extra>",
    }


def _upright(mark: Mark) -> Figure:
    return {
        "type": "line",
        "x0": str(mark.session),
        "x1": str(mark.session),
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": _SOFT, "width": 1, "dash": "dot"},
    }


def _told(mark: Mark) -> Figure:
    return {
        "x": str(mark.session),
        "yref": "paper",
        "y": 1,
        "yanchor": "bottom",
        "xanchor": "center",
        "text": mark.text,
        "showarrow": False,
        "font": {"size": 11, "color": _SOFT},
    }


def _line(
    days: list[str],
    values: pd.Series[float],
    name: str,
    colour: str,
    dash: str = "solid",
    *,
    width: float = 2,
) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": days,
        "y": _values(values, 6),
        "line": {"color": colour, "width": width, "dash": dash},
    }


def _figure(traces: list[Figure], title: str | None = None) -> Figure:
    layout = {
        "font": {"family": "inherit", "size": 13, "color": _SOFT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": "var(--surface)",
            "bordercolor": _LINE,
            "font": {"color": _INK},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.06, "yanchor": "bottom"},
        "xaxis": {**_axis(None), "type": "date", "showgrid": False, "hoverformat": "%a %Y-%m-%d"},
        "yaxis": _axis(title),
        "bargap": 0.25,
    }
    return {"data": traces, "layout": layout}


def _axis(title: str | None) -> Figure:
    told = {"title": {"text": title, "standoff": 10}} if title else {}
    return {
        **told,
        "automargin": True,
        "gridcolor": _LINE,
        "linecolor": _LINE,
        "zeroline": False,
        "fixedrange": False,
    }


def _closed(sessions: pd.Series[Any], forecasts: pd.DataFrame | None = None) -> list[Figure]:
    """Leave days without trading out of the axis."""
    if sessions.empty:
        return []
    last = sessions.max()
    if forecasts is not None and not forecasts.empty:
        last = max(last, forecasts["target_session"].max())
    closed = calendar.closures(sessions.min().date(), last.date() + timedelta(days=1))
    return [{"bounds": ["sat", "mon"]}, {"values": [str(day) for day in closed]}]


def _days(sessions: pd.Series[Any]) -> list[str]:
    return list(sessions.dt.strftime("%Y-%m-%d"))


def _values(values: pd.Series[float], decimals: int) -> list[float | None]:
    """Give numbers as JSON holds them, no longer than a picture needs; NaN is null."""
    rounded = values.round(decimals)
    known: list[float | None] = rounded.astype(object).where(rounded.notna(), None).tolist()
    return known
