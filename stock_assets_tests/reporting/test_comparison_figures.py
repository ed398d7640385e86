"""Figures of compared models: the numbers drawn are the numbers given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stock_assets.evaluation.metrics import persistence_forecasts, score_rows
from stock_assets.evaluation.scorecard import ticker_table
from stock_assets.evaluation.significance import cumulative_difference, loss_difference
from stock_assets.evaluation.skill import measure_skill, session_ics
from stock_assets.reporting.comparison_figures import cumulative_figure, ic_figure, ticker_figure
from stock_assets_tests.evaluation.examples import scored_forecasts
from stock_assets_tests.reporting.drawn import assert_equal, traces


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
