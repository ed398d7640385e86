"""Figures: plain JSON in the colours of the theme."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pytest

from stock_assets.market.adjustment import adjust
from stock_assets.market.calendar import next_sessions, sessions
from stock_assets.service import charts
from stock_assets_tests.storage.examples import bars, forecasts

DAYS = sessions(date(2012, 12, 20), date(2013, 1, 10))


def scores(days: list[date], version: int = 1, mape: float = 0.01) -> list[dict[str, Any]]:
    return [
        {"session": day, "model_version": version, "mape": mape, "persistence_mape": 0.01}
        for day in days
    ]


def colours(value: Any) -> set[str]:
    """Every text of a figure that is a colour."""
    if isinstance(value, dict):
        return set().union(*map(colours, value.values()))
    if isinstance(value, list):
        return set().union(*map(colours, value))
    return {value} if isinstance(value, str) and value.startswith(("var(", "#", "rgb")) else set()


def draw(rows: list[dict[str, Any]], **settings: Any) -> charts.Figure:
    lines = {"mape": "model", "persistence_mape": "persistence"}
    return charts.score_figure(rows, lines, settings.pop("limits", {}), **settings)


def test_a_figure_is_json_and_leaves_colours_to_the_theme() -> None:
    drawn = charts.price_figure(adjust(bars("A", DAYS), "raw", DAYS[-1]), forecasts(DAYS[-1:], "A"))
    assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn
    assert {colour for colour in colours(drawn) if not colour.startswith("var(")} == {
        "rgba(0,0,0,0)"
    }


def test_days_without_trading_take_no_room() -> None:
    drawn = charts.price_figure(bars("A", DAYS), forecasts(DAYS[-1:], "A"))
    weekend, closed = drawn["layout"]["xaxis"]["rangebreaks"]
    assert weekend == {"bounds": ["sat", "mon"]}
    assert closed["values"] == ["2012-12-25", "2013-01-01"]


def test_many_candles_are_a_line() -> None:
    many = next_sessions(date(2010, 1, 4), charts.MOST_CANDLES + 1)
    few = charts.price_figure(bars("A", many[1:]), forecasts(many[-1:], "A"))
    assert few["data"][1]["type"] == "candlestick"
    drawn = charts.price_figure(bars("A", many), forecasts(many[-1:], "A"))
    assert drawn["data"][1]["type"] == "scatter"


def test_an_undefined_score_is_a_gap() -> None:
    rows = scores(DAYS[:3])
    rows[1]["mape"] = None
    assert draw(rows)["data"][0]["y"] == [0.01, None, 0.01, None]


def test_a_line_is_broken_where_another_version_begins() -> None:
    model = draw(scores(DAYS[:2]) + scores(DAYS[2:4], version=2))["data"][0]
    assert model["x"] == [*map(str, DAYS[:2]), None, *map(str, DAYS[2:4]), None]
    assert model["text"] == ["v1", "v1", None, "v2", "v2", None]


@pytest.mark.parametrize(("limit", "seen"), [(0.012, True), (0.10, False), (0.0, False)])
def test_a_threshold_far_away_does_not_flatten_the_scores(limit: float, seen: bool) -> None:
    assert charts.within_sight(limit, np.array([0.010, 0.014])) is seen
    rows = [*scores(DAYS[:2]), {**scores(DAYS[2:3])[0], "mape": 0.014}]
    names = [line["name"] for line in draw(rows, limits={"threshold": limit})["data"]]
    assert ("threshold" in names) is seen


def test_only_what_happened_within_the_picture_is_marked() -> None:
    marks = [charts.Mark(day, f"v{number}") for number, day in enumerate(DAYS)]
    layout = draw(scores(DAYS[2:5]), marks=marks)["layout"]
    assert [note["text"] for note in layout["annotations"]] == ["v2", "v3", "v4"]
    assert [shape["x0"] for shape in layout["shapes"]] == [str(day) for day in DAYS[2:5]]
