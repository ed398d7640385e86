"""Figures of scores over time: the numbers drawn are the numbers given."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from stock_assets.evaluation.metrics import weekly_coverage
from stock_assets.reporting.charts import Chart
from stock_assets.reporting.score_figures import (
    Mark,
    coverage_figure,
    error_figure,
    is_near,
    score_figure,
)
from stock_assets_tests.reporting.drawn import DAYS, assert_equal, rows, traces


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


def scores(days: list[date], version: int = 1, mape: float = 0.01) -> list[dict[str, Any]]:
    return [
        {"session": day, "model_version": version, "mape": mape, "persistence_mape": 0.01}
        for day in days
    ]


def draw_scores(rows: list[dict[str, Any]], **settings: Any) -> Chart:
    lines = {"mape": "model", "persistence_mape": "persistence"}
    return score_figure(rows, lines, settings.pop("limits", {}), **settings)


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


def test_a_threshold_of_a_score_that_is_undefined_throughout_is_omitted() -> None:
    """Persistence has no direction."""
    assert not is_near(0.5, np.array([np.nan, np.nan]))


def test_only_events_in_the_range_are_marked() -> None:
    marks = [Mark(day, f"v{number}") for number, day in enumerate(DAYS)]
    layout = draw_scores(scores(DAYS[2:5]), marks=marks)["layout"]
    assert [note["text"] for note in layout["annotations"]] == ["v2", "v3", "v4"]
    assert [shape["x0"] for shape in layout["shapes"]] == [str(day) for day in DAYS[2:5]]
