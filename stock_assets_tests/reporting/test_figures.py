"""Plots: the numbers drawn are the numbers given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.evaluation.scorecard import ticker_table
from stock_assets.evaluation.significance import cumulative_difference, loss_difference
from stock_assets.evaluation.skill import measure_skill, session_ics
from stock_assets.reporting.figures import (
    cumulative_figure,
    error_figure,
    forecast_figures,
    ic_figure,
    ticker_figure,
    training_figure,
    validity_figure,
)
from stock_assets_tests.evaluation.examples import scored_forecasts


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


def lines(figure: object) -> dict[str, object]:
    return {line.name: line for line in figure.data}


def test_each_ticker_has_a_figure_with_forecast_actual_and_interval() -> None:
    figures = forecast_figures(rows())
    assert [figure.layout.title.text.split(":")[0] for figure in figures] == ["AAA", "BBB"]
    own = rows().query("ticker == 'AAA'").sort_values("session")
    drawn = lines(figures[0])
    columns = {"forecast": "predicted", "interval": "lower"}
    columns |= {name: name for name in ("actual", "persistence")}
    for name, column in columns.items():
        np.testing.assert_array_equal(drawn[name].y, own[column])
    assert list(pd.to_datetime(drawn["actual"].x)) == list(own["session"])
    assert figures[0].layout.yaxis.title.text == "price, $"


def test_of_several_horizons_the_nearest_is_drawn() -> None:
    several = pd.concat([rows(), rows().assign(horizon=2, predicted=0.0)])
    assert forecast_figures(several) == forecast_figures(rows())


def test_no_forecast_has_no_figure() -> None:
    assert forecast_figures(rows().iloc[:0]) == []


def test_errors_are_drawn_in_percent_beside_persistence() -> None:
    drawn = lines(error_figure(rows(), window=1))
    assert set(drawn) == {"forecast", "persistence"}
    scored = rows()
    daily = 100 * scored.groupby("session")["absolute_percentage_error"].mean()
    np.testing.assert_allclose(drawn["forecast"].y, daily)
    idle = 100 * (scored["persistence_absolute_error"] / scored["actual"])
    np.testing.assert_allclose(drawn["persistence"].y, idle.groupby(scored["session"]).mean())


def test_errors_roll_over_sessions_that_are_past() -> None:
    smooth, daily = lines(error_figure(rows(), window=5)), lines(error_figure(rows(), window=1))
    values = np.asarray(daily["forecast"].y)
    assert smooth["forecast"].y[0] == pytest.approx(values[0])
    assert smooth["forecast"].y[9] == pytest.approx(values[5:10].mean())


def test_training_curves_are_the_losses() -> None:
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [3.0, 2.0], "validation_loss": [4.0, 5]})
    drawn = lines(training_figure(history))
    assert list(drawn["training"].y) == [3.0, 2.0]
    assert list(drawn["validation"].y) == [4.0, 5.0]
    assert list(drawn["training"].x) == [1, 2]


def test_the_tickers_with_a_valid_row_are_counted_per_session() -> None:
    sessions = pd.date_range("2013-01-01", periods=3, freq="B")
    valid = np.array([[False, False], [False, True], [True, True]])
    figure = validity_figure(valid, sessions)
    assert list(figure.data[0].y) == [0, 1, 2]
    assert list(pd.to_datetime(figure.data[0].x)) == list(sessions)
    assert figure.layout.title.text.endswith("of 2")


def test_differences_from_persistence_add_up_with_a_band_for_the_first_model() -> None:
    idle = score_rows(persistence_forecasts(scored_forecasts()))
    scored = {"candidate": scored_forecasts(), "persistence": idle}
    scored["production"] = scored_forecasts(own_seed=2)
    scored["ridge"] = scored_forecasts(own_seed=3)
    figure = cumulative_figure(scored)
    drawn = lines(figure)
    path = cumulative_difference(loss_difference(scored["candidate"], idle))
    np.testing.assert_allclose(drawn["candidate"].y, 100 * path["cumulative"])
    np.testing.assert_allclose(drawn["95% band"].y, 100 * path["lower"])
    np.testing.assert_allclose(figure.data[0].y, 100 * path["upper"])
    assert list(pd.to_datetime(drawn["candidate"].x)) == list(path.index)
    assert set(drawn["persistence"].y) == {0.0}
    colours = [drawn[name].line.color for name in scored]
    assert len(set(colours)) == 4
    assert [name for name in scored if drawn[name].visible == "legendonly"] == ["ridge"]


def test_the_band_of_several_horizons_counts_their_overlap() -> None:
    rows = scored_forecasts(horizons=3)
    scored = {"candidate": rows, "persistence": score_rows(persistence_forecasts(rows))}
    figure = cumulative_figure(scored)
    path = cumulative_difference(loss_difference(rows, scored["persistence"]), 3)
    np.testing.assert_allclose(lines(figure)["95% band"].y, 100 * path["lower"])
    assert figure.layout.yaxis.title.text == "% of price"


def test_the_coefficient_of_each_session_is_drawn_with_its_mean() -> None:
    rows = scored_forecasts()
    drawn, ics = lines(ic_figure(rows)), session_ics(rows).droplevel("horizon")
    np.testing.assert_array_equal(drawn["IC"].y, ics["ic"])
    np.testing.assert_array_equal(drawn["rank IC"].y, ics["rank_ic"])
    assert set(drawn["mean IC"].y) == {ics["ic"].mean()}


def test_the_coefficients_of_several_horizons_are_drawn_as_their_mean() -> None:
    rows = scored_forecasts(horizons=3)
    drawn, ics = lines(ic_figure(rows)), session_ics(rows)["ic"]
    days = sorted(rows["session"].unique())
    assert set(drawn["mean IC"].y) == {measure_skill(rows).session_ic}
    assert list(pd.to_datetime(drawn["IC"].x)) == days
    np.testing.assert_allclose(drawn["IC"].y, [ics[day].mean() for day in days])


def test_each_tickers_error_is_drawn_with_the_interval_that_its_test_has() -> None:
    rows = scored_forecasts(seed=3, tickers=40)
    scored = {"candidate": rows, "persistence": score_rows(persistence_forecasts(rows))}
    table = ticker_table(scored).query("model == 'candidate'").set_index("ticker")
    figure = ticker_figure(table.reset_index())
    drawn = lines(figure)
    told = table.loc[list(drawn["ticker"].x)]
    assert len(told) == 40
    assert told["error_difference"].is_monotonic_increasing
    np.testing.assert_allclose(drawn["ticker"].y, 100 * told["error_difference"])
    upper, lower = figure.data[0].y, drawn["95% interval"].y
    beyond = (np.array(lower) > 0) | (np.array(upper) < 0)
    assert beyond.tolist() == (told["p_persistence"] < 0.05).tolist()
    assert set(drawn["persistence"].y) == {0.0}
    assert 0 < beyond.sum() < 40
