"""Figures of prices: the numbers drawn are the numbers given."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pandas as pd

from stock_assets.market.adjustment import adjust
from stock_assets.market.calendar import next_sessions
from stock_assets.reporting.price_figures import MAX_CANDLES, forecast_figures, price_figure
from stock_assets_tests.reporting.drawn import DAYS, assert_equal, rows, traces
from stock_assets_tests.storage.examples import bars, forecasts


def test_forecast_figure_shows_forecast_actual_persistence_and_interval() -> None:
    figures = forecast_figures(rows())
    assert [figure["layout"]["title"]["text"].split(":")[0] for figure in figures] == ["AAA", "BBB"]
    own = rows().query("ticker == 'AAA'").sort_values("session")
    drawn = traces(figures[0])
    columns = {"forecast": "predicted", "interval": "lower"}
    columns |= {name: name for name in ("actual", "persistence")}
    for name, column in columns.items():
        assert_equal(drawn[name]["y"], own[column])
    assert list(pd.to_datetime(drawn["actual"]["x"])) == list(own["session"])
    assert figures[0]["layout"]["yaxis"]["title"]["text"] == "price, $"


def test_forecast_figures_ignore_longer_horizons() -> None:
    several = pd.concat([rows(), rows().assign(horizon=2, predicted=0.0)])
    assert forecast_figures(several) == forecast_figures(rows())


def test_no_figure_without_forecasts() -> None:
    assert forecast_figures(rows().iloc[:0]) == []


def colours(value: Any) -> set[str]:
    """Every text of a figure that is a colour."""
    if isinstance(value, dict):
        return set().union(*map(colours, value.values()))
    if isinstance(value, list):
        return set().union(*map(colours, value))
    return {value} if isinstance(value, str) and value.startswith(("var(", "#", "rgb")) else set()


def test_figure_is_json_with_colours_of_the_theme() -> None:
    drawn = price_figure(adjust(bars("A", DAYS), "raw", DAYS[-1]), forecasts(DAYS[-1:], "A"))
    assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn
    assert {colour for colour in colours(drawn) if not colour.startswith("var(")} == {
        "rgba(0,0,0,0)"
    }


def test_days_without_trading_are_omitted() -> None:
    drawn = price_figure(bars("A", DAYS), forecasts(DAYS[-1:], "A"))
    weekend, closed = drawn["layout"]["xaxis"]["rangebreaks"]
    assert weekend == {"bounds": ["sat", "mon"]}
    assert closed["values"] == ["2012-12-25", "2013-01-01"]


def test_newest_forecast_has_a_fan_of_intervals() -> None:
    """On the basis of the prices: here in half as many shares as stored."""
    made = forecasts(DAYS[-1:], "A")
    levels = [
        {"coverage": 0.5, "lower": 202.0, "upper": 204.0},
        {"coverage": 0.9, "lower": 199.0, "upper": 207.0},
    ]
    drawn = price_figure(bars("A", DAYS), made.assign(intervals=json.dumps(levels)))["data"][2:]
    assert [line["error_y"]["array"] for line in drawn] == [[0.5], [2.0]]
    assert [line["error_y"]["arrayminus"] for line in drawn] == [[0.5], [2.0]]
    narrow, wide = (line["error_y"]["thickness"] for line in drawn)
    assert narrow > wide
    assert [line["y"] for line in drawn] == [[101.5], [101.5]]
    earlier = price_figure(bars("A", DAYS), made.assign(intervals=None))["data"][2:]
    assert [line["error_y"]["array"] for line in earlier] == [[2.0]]


def test_many_candles_become_a_line() -> None:
    many = next_sessions(date(2010, 1, 4), MAX_CANDLES + 1)
    few = price_figure(bars("A", many[1:]), forecasts(many[-1:], "A"))
    assert few["data"][1]["type"] == "candlestick"
    drawn = price_figure(bars("A", many), forecasts(many[-1:], "A"))
    assert drawn["data"][1]["type"] == "scatter"
