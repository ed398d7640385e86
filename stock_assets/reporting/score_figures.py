"""Figures of scores over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.evaluation.alarm import AlarmState
from stock_assets.evaluation.metrics import weekly_coverage
from stock_assets.evaluation.shadow_rule import ENOUGH, ShadowEvidence
from stock_assets.reporting import charts
from stock_assets.reporting.charts import Chart

_LEAST_EVIDENCE = 0.01
"""Evidence below this is drawn as this: the axis is logarithmic."""


@dataclass(frozen=True)
class Mark:
    """An event on a session, marked by a vertical line."""

    session: date
    text: str


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


def evidence_figure(paths: Sequence[tuple[int, AlarmState]], marks: Sequence[Mark] = ()) -> Chart:
    """Draw the evidence of the detectors, on a logarithmic axis, climbing towards its limit.

    Parameters
    ----------
    paths : sequence of (int, AlarmState)
        Each version's number and its evidence since it was put in force or last retrained, oldest
        first, at least one.
    marks : sequence of Mark
        Events.
    """
    days: list[str | None] = []
    points: list[float | None] = []
    limits: list[float | None] = []
    versions: list[str | None] = []
    for version, alarm in paths:
        days += [*map(str, alarm.path), None]
        points += [*(max(value, _LEAST_EVIDENCE) for value in alarm.path.values()), None]
        limits += [*[alarm.limit] * len(alarm.path), None]
        versions += [*[f"v{version}"] * len(alarm.path), None]
    lines = [
        charts.line(days, [], "evidence", charts.MODEL)
        | {"y": points, "text": versions, "hovertemplate": "%{y:.3~g} %{text}<extra></extra>"},
        charts.line(days, [], "alarm", charts.LIMIT, "dash", width=1.4) | {"y": limits},
    ]
    figure = charts.figure([line | {"connectgaps": False} for line in lines])
    figure["layout"]["yaxis"] |= {"type": "log", "tickformat": "~g", "dtick": 1}
    known = [day for day in days if day is not None]
    shown = [mark for mark in marks if min(known) <= str(mark.session) <= max(known)]
    figure["layout"]["shapes"] = [_vertical_line(mark) for mark in shown]
    figure["layout"]["annotations"] = [_annotation(mark) for mark in shown]
    return figure


def shadow_figure(evidence: ShadowEvidence) -> Chart:
    """Draw the evidence for a candidate in shadow, on a logarithmic axis.

    Parameters
    ----------
    evidence : ShadowEvidence
        With at least one session.
    """
    days = [*map(str, evidence.sessions)]
    path = charts.line(days, list(evidence.evidence), "evidence", charts.MODEL)
    limit = charts.line(days, [ENOUGH] * len(days), "promotes", charts.LIMIT, "dash", width=1.4)
    figure = charts.figure([path, limit])
    figure["layout"]["yaxis"] |= {"type": "log", "tickformat": "~g", "dtick": 1}
    return figure


def is_near(limit: float, drawn: NDArray[np.float64]) -> bool:
    """Check whether a level can be drawn without flattening the lines; not without any value."""
    if not np.isfinite(drawn).any():
        return False
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
