"""Figures: the numbers drawn are the numbers given."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stock_assets.evaluation.metrics import persistence_forecasts, score_rows, weekly_coverage
from stock_assets.evaluation.scorecard import ticker_table
from stock_assets.evaluation.significance import cumulative_difference, loss_difference
from stock_assets.evaluation.skill import measure_skill, session_ics
from stock_assets.market.adjustment import adjust
from stock_assets.market.calendar import next_sessions, sessions
from stock_assets.reporting.charts import Chart
from stock_assets.reporting.figures import (
    MAX_CANDLES,
    Mark,
    coverage_figure,
    cumulative_figure,
    error_figure,
    forecast_figures,
    ic_figure,
    is_near,
    price_figure,
    score_figure,
    ticker_figure,
    training_figure,
    validity_figure,
)
from stock_assets_tests.evaluation.examples import scored_forecasts
from stock_assets_tests.storage.examples import bars, forecasts


def assert_equal(drawn: Any, expected: Any) -> None:
    """Compare numbers that a figure holds rounded to six decimals."""
    np.testing.assert_allclose(
        np.asarray(drawn, dtype=float), np.asarray(expected, dtype=float), atol=1e-6
    )


def rows() -> pd.DataFrame:
    """Two tickers over thirty sessions, newest first."""
    days = pd.date_range("2013-01-01", periods=30, freq="B")
    frame = pd.DataFrame(
        {
            "session": np.repeat(days, 2),
            "ticker": ["AAA", "BBB"] * 30,
            "horizon": 1,
            "actual": np.linspace(100.0, 130.0, 60),
            "predicted": np.linspace(101.0, 131.0, 60),
            "persistence": np.linspace(98.0, 128.0, 60),
        }
    )
    frame = frame.assign(lower=frame["predicted"] - 3, upper=frame["predicted"] + 3)
    return score_rows(frame.iloc[::-1].reset_index(drop=True))


def traces(figure: Chart) -> dict[str, Chart]:
    return {trace["name"]: trace for trace in figure["data"]}


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


def test_error_figure_shows_percent_and_persistence() -> None:
    drawn = traces(error_figure(rows(), window=1))
    assert set(drawn) == {"forecast", "persistence"}
    scored = rows()
    daily = 100 * scored.groupby("session")["absolute_percentage_error"].mean()
    assert_equal(drawn["forecast"]["y"], daily)
    idle = 100 * (scored["persistence_absolute_error"] / scored["actual"])
    assert_equal(drawn["persistence"]["y"], idle.groupby(scored["session"]).mean())


def test_error_figure_rolls_over_past_sessions() -> None:
    smooth, daily = traces(error_figure(rows(), window=5)), traces(error_figure(rows(), window=1))
    values = np.asarray(daily["forecast"]["y"])
    assert smooth["forecast"]["y"][0] == pytest.approx(values[0])
    assert smooth["forecast"]["y"][9] == pytest.approx(values[5:10].mean())


def test_coverage_figure_shows_weeks_beside_the_nominal_coverage() -> None:
    scored = rows()
    drawn = traces(coverage_figure(scored, 0.9))
    assert_equal(drawn["inside"]["y"], 100 * weekly_coverage(scored))
    assert set(drawn["nominal"]["y"]) == {90.0}


def test_training_figure_shows_the_losses() -> None:
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [3.0, 2.0], "validation_loss": [4.0, 5]})
    drawn = traces(training_figure(history))
    assert list(drawn["training"]["y"]) == [3.0, 2.0]
    assert list(drawn["validation"]["y"]) == [4.0, 5.0]
    assert list(drawn["training"]["x"]) == [1, 2]


def test_cumulative_figure_has_a_band_for_the_first_model() -> None:
    idle = score_rows(persistence_forecasts(scored_forecasts()))
    scored = {"candidate": scored_forecasts(), "persistence": idle}
    scored["production"] = scored_forecasts(own_seed=2)
    scored["ridge"] = scored_forecasts(own_seed=3)
    figure = cumulative_figure(scored)
    drawn = traces(figure)
    path = cumulative_difference(loss_difference(scored["candidate"], idle))
    assert_equal(drawn["candidate"]["y"], 100 * path["cumulative"])
    assert_equal(drawn["95% band"]["y"], 100 * path["lower"])
    assert_equal(figure["data"][0]["y"], 100 * path["upper"])
    assert list(pd.to_datetime(drawn["candidate"]["x"])) == list(path.index)
    assert set(drawn["persistence"]["y"]) == {0.0}
    colours = [drawn[name]["line"]["color"] for name in scored]
    assert len(set(colours)) == 4
    assert [name for name in scored if drawn[name]["visible"] == "legendonly"] == ["ridge"]


def test_cumulative_figure_draws_any_number_of_models() -> None:
    idle = score_rows(persistence_forecasts(scored_forecasts()))
    names = ["candidate", "persistence", *(f"model {number}" for number in range(6)), "one more"]
    drawn = traces(cumulative_figure(dict.fromkeys(names, idle)))
    assert set(names) <= set(drawn)
    assert len({drawn[name]["line"]["color"] for name in names}) == len(names) - 1


def test_cumulative_band_of_several_horizons() -> None:
    rows = scored_forecasts(horizons=3)
    scored = {"candidate": rows, "persistence": score_rows(persistence_forecasts(rows))}
    figure = cumulative_figure(scored)
    path = cumulative_difference(loss_difference(rows, scored["persistence"]), 3)
    assert_equal(traces(figure)["95% band"]["y"], 100 * path["lower"])
    assert figure["layout"]["yaxis"]["title"]["text"] == "% of price"


def test_ic_figure_shows_each_session_and_the_mean() -> None:
    rows = scored_forecasts()
    drawn, ics = traces(ic_figure(rows)), session_ics(rows).droplevel("horizon")
    assert_equal(drawn["IC"]["y"], ics["ic"])
    assert_equal(drawn["rank IC"]["y"], ics["rank_ic"])
    assert_equal(drawn["mean IC"]["y"], [ics["ic"].mean()] * len(ics))


def test_ic_figure_averages_horizons() -> None:
    rows = scored_forecasts(horizons=3)
    drawn, ics = traces(ic_figure(rows)), session_ics(rows)["ic"]
    days = sorted(rows["session"].unique())
    assert_equal(drawn["mean IC"]["y"], [measure_skill(rows).session_ic] * len(days))
    assert list(pd.to_datetime(drawn["IC"]["x"])) == days
    assert_equal(drawn["IC"]["y"], [ics[day].mean() for day in days])


def test_ticker_figure_agrees_with_the_test_of_each_ticker() -> None:
    rows = scored_forecasts(seed=3, tickers=40)
    scored = {"candidate": rows, "persistence": score_rows(persistence_forecasts(rows))}
    table = ticker_table(scored).query("model == 'candidate'").set_index("ticker")
    figure = ticker_figure(table.reset_index())
    drawn = traces(figure)
    ordered = table.loc[list(drawn["ticker"]["x"])]
    assert len(ordered) == 40
    assert ordered["error_difference"].is_monotonic_increasing
    assert_equal(drawn["ticker"]["y"], 100 * ordered["error_difference"])
    upper, lower = figure["data"][0]["y"], drawn["95% interval"]["y"]
    beyond = (np.array(lower) > 0) | (np.array(upper) < 0)
    assert beyond.tolist() == (ordered["p_persistence"] < 0.05).tolist()
    assert set(drawn["persistence"]["y"]) == {0.0}
    assert 0 < beyond.sum() < 40


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


def draw_scores(rows: list[dict[str, Any]], **settings: Any) -> Chart:
    lines = {"mape": "model", "persistence_mape": "persistence"}
    return score_figure(rows, lines, settings.pop("limits", {}), **settings)


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


def test_undefined_score_is_a_gap() -> None:
    rows = scores(DAYS[:3])
    rows[1]["mape"] = None
    assert draw_scores(rows)["data"][0]["y"] == [0.01, None, 0.01, None]


def test_each_version_has_its_own_line() -> None:
    model = draw_scores(scores(DAYS[:2]) + scores(DAYS[2:4], version=2))["data"][0]
    assert model["x"] == [*map(str, DAYS[:2]), None, *map(str, DAYS[2:4]), None]
    assert model["text"] == ["v1", "v1", None, "v2", "v2", None]


@pytest.mark.parametrize(("limit", "seen"), [(0.012, True), (0.10, False), (0.0, False)])
def test_distant_threshold_is_omitted(limit: float, seen: bool) -> None:
    assert is_near(limit, np.array([0.010, 0.014])) is seen
    rows = [*scores(DAYS[:2]), {**scores(DAYS[2:3])[0], "mape": 0.014}]
    names = [line["name"] for line in draw_scores(rows, limits={"threshold": limit})["data"]]
    assert ("threshold" in names) is seen


def test_only_events_in_the_range_are_marked() -> None:
    marks = [Mark(day, f"v{number}") for number, day in enumerate(DAYS)]
    layout = draw_scores(scores(DAYS[2:5]), marks=marks)["layout"]
    assert [note["text"] for note in layout["annotations"]] == ["v2", "v3", "v4"]
    assert [shape["x0"] for shape in layout["shapes"]] == [str(day) for day in DAYS[2:5]]


def test_masked_rows_are_drawn_by_session_and_ticker() -> None:
    valid = np.array([[True, False], [True, True], [False, True]])
    (cells,) = validity_figure(valid, pd.DatetimeIndex(DAYS[:3]), ["A", "B"])["data"]
    assert cells["x"] == [str(day) for day in DAYS[:3]]
    assert dict(zip(cells["y"], cells["z"], strict=True)) == {"A": [1, 1, 0], "B": [0, 1, 1]}
