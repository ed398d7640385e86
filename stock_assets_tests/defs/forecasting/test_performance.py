"""The performance log: each due forecast is scored once, with persistence."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest
from rich.console import Console
from sqlalchemy import delete, text

from stock_assets.cli.runs import run_session, run_sessions
from stock_assets.defs.resources import Store
from stock_assets.evaluation.metrics import summarise
from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.storage.forecasts import (
    forecasts_due,
    predictions_as_of,
    read_performance,
    save_predictions,
)
from stock_assets.storage.prices import read_bars
from stock_assets.storage.tables import raw_stock_data
from stock_assets_tests.conftest import FIRST_INGESTED, Loop
from stock_assets_tests.defs.running import data_version, failure, materialize, metadata, params
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import tampering

LOG = (
    "SELECT session, ticker, evaluated_at, dagster_run_id FROM model_performance_log ORDER BY 1, 2"
)


def log(loop: Loop) -> pd.DataFrame:
    return read_performance(loop.platform.engine, loop.replayed[0], loop.replayed[-1])


def written(loop: Loop) -> list[tuple[object, ...]]:
    with loop.platform.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(LOG))]


def test_every_forecast_that_came_due_is_scored(loop: Loop) -> None:
    scored = log(loop)
    assert len(scored) == 5 * (len(loop.replayed) - 1)
    assert scored["session"].dt.date.unique().tolist() == list(loop.replayed[1:])
    before = [calendar.previous_session(day) for day in scored["session"].dt.date]
    assert scored["as_of_session"].dt.date.tolist() == before
    assert scored["evaluated_at"].notna().all()


def test_scores_are_those_of_the_stored_forecasts_and_closes(loop: Loop) -> None:
    bars = read_bars(loop.platform.engine, *[loop.replayed[i] for i in (0, -1)])
    expected = score_due(forecasts_due(loop.platform.engine, loop.replayed[1:]), bars)
    scored = log(loop)
    shared = [name for name in scored.columns if name in expected and name != "dagster_run_id"]
    pd.testing.assert_frame_equal(
        scored[shared], expected[shared], check_exact=True, check_dtype=False
    )
    closes = bars.merge(scored, on=["ticker", "session"])
    assert (closes["close"] == closes["actual"]).all()
    recorded = {
        name: value.value
        for name, value in loop.scores.asset_materializations_for_node("performance_log")[
            0
        ].metadata.items()
    }
    model = summarise(scored)
    assert recorded["relative_mae"] == pytest.approx(model.relative_mae, rel=1e-12)
    assert recorded["mape"] == pytest.approx(model.mape, rel=1e-12)
    assert recorded["forecasts_scored"] == recorded["forecasts_due"] == len(scored)


def test_scoring_again_changes_nothing(loop: Loop) -> None:
    before, console = written(loop), Console(quiet=True)
    days = loop.replayed[1:]
    again = run_sessions(loop.platform, console, ["performance_log"], days)
    versions = {
        event.tags["dagster/data_version"]
        for result in (loop.scores, again)
        for event in result.asset_materializations_for_node("performance_log")
    }
    assert len(versions) == 1
    run_session(loop.platform, console, ["performance_log"], days[7])
    assert written(loop) == before


def test_a_session_without_a_forecast_is_no_failure_and_no_row(loop: Loop) -> None:
    before = written(loop)
    day = date(2012, 12, 27)
    result = run_session(loop.platform, Console(quiet=True), ["performance_log"], day)
    recorded = metadata(result, "performance_log")
    assert recorded["scores"] == "no forecast was due"
    assert (recorded["forecasts_due"], recorded["forecasts_scored"]) == (0, 0)
    assert written(loop) == before


def test_a_session_without_any_bar_is_refused_and_its_scores_stay(
    loop: Loop, own_store: Store
) -> None:
    day, as_of = loop.replayed[4], loop.replayed[3]
    bars = read_bars(loop.platform.engine, FIRST_INGESTED, day)
    made = predictions_as_of(loop.platform.engine, [as_of]).drop(columns="predicted_at")
    save_predictions(own_store.engine, made, [as_of], int(made["model_version"].iloc[0]))
    store_bars(own_store.engine, bars, "sample")
    key = day.isoformat()
    assert materialize(["performance_log"], key, own_store, params()).success
    before = read_performance(own_store.engine, day, day)
    with tampering(own_store.engine) as connection:
        connection.execute(delete(raw_stock_data).where(raw_stock_data.c.session == day))
    result = materialize(["performance_log"], key, own_store, params())
    assert not result.success
    assert f"no bar is stored for {day}" in failure(result)
    assert f"stock-assets backfill raw_prices --from {day} --to {day}" in failure(result)
    pd.testing.assert_frame_equal(read_performance(own_store.engine, day, day), before)


def test_models_that_forecast_the_same_session_are_scored_apart(
    loop: Loop, own_store: Store
) -> None:
    day, as_of = loop.replayed[4], loop.replayed[3]
    bars = read_bars(loop.platform.engine, FIRST_INGESTED, day)
    store_bars(own_store.engine, bars, "sample")
    made = predictions_as_of(loop.platform.engine, [as_of]).drop(columns="predicted_at")
    for version, change in ((7, 1.0), (8, 1.01)):
        again = made.assign(model_version=version)
        prices = ["predicted_price", "lower_price", "upper_price"]
        again[prices] *= change
        save_predictions(own_store.engine, again, [as_of], version)
    result = materialize(["performance_log"], day.isoformat(), own_store, params())
    recorded, scored = (
        metadata(result, "performance_log"),
        read_performance(own_store.engine, day, day),
    )
    assert recorded["forecasts_scored"] == len(scored) == 10
    newest = summarise(scored[scored["model_version"] == 8])
    assert recorded["model_version"] == 8
    assert recorded["mape"] == pytest.approx(newest.mape, rel=1e-12)
    assert recorded["mape"] != pytest.approx(summarise(scored).mape, rel=1e-6)
    rows = [record.data for record in recorded["per_ticker"].records]
    assert [(row["model_version"], row["ticker"], row["forecasts"]) for row in rows] == [
        (version, ticker, 1) for version in (7, 8) for ticker in made["ticker"]
    ]


def test_a_missing_close_is_counted_and_scored_later(loop: Loop, own_store: Store) -> None:
    day, as_of = loop.replayed[4], loop.replayed[3]
    bars = read_bars(loop.platform.engine, FIRST_INGESTED, day)
    made = predictions_as_of(loop.platform.engine, [as_of]).drop(columns="predicted_at")
    save_predictions(own_store.engine, made, [as_of], int(made["model_version"].iloc[0]))
    late = (bars["ticker"] == "IBM") & (bars["session"] == pd.Timestamp(day))
    store_bars(own_store.engine, bars[~late], "sample")
    key = day.isoformat()
    first = materialize(["performance_log"], key, own_store, params())
    recorded = metadata(first, "performance_log")
    assert (recorded["forecasts_scored"], recorded["forecasts_without_a_close"]) == (4, 1)
    store_bars(own_store.engine, bars[late], "sample")
    second = materialize(["performance_log"], key, own_store, params())
    assert metadata(second, "performance_log")["forecasts_scored"] == 5
    assert data_version(first, "performance_log") != data_version(second, "performance_log")
    assert len(read_performance(own_store.engine, day, day)) == 5


@pytest.mark.parametrize("ratio", [10.0, 0.1, 1.5])
def test_a_forecast_is_scored_across_a_split_and_a_dividend(
    loop: Loop, own_store: Store, ratio: float
) -> None:
    day, as_of = loop.replayed[4], loop.replayed[3]
    bars = read_bars(loop.platform.engine, FIRST_INGESTED, day)
    made = predictions_as_of(loop.platform.engine, [as_of]).drop(columns="predicted_at")
    save_predictions(own_store.engine, made, [as_of], int(made["model_version"].iloc[0]))
    store_bars(own_store.engine, bars, "sample")
    materialize(["performance_log"], day.isoformat(), own_store, params())
    before = read_performance(own_store.engine, day, day).set_index("ticker")

    at_ex_date = (bars["ticker"] == "IBM") & (bars["session"] == pd.Timestamp(day))
    paid = bars["ticker"].eq("MSFT") & (bars["session"] == pd.Timestamp(day))
    prices = ["open", "high", "low", "close"]
    bars.loc[at_ex_date, prices] /= ratio
    bars.loc[at_ex_date, "stock_splits"] = ratio
    worth = made.set_index("ticker")["last_close"]["MSFT"]
    bars.loc[paid, prices] *= 1.0 - 2.0 / worth
    bars.loc[paid, "dividends"] = 2.0
    store_bars(own_store.engine, bars, "sample")
    materialize(["performance_log"], day.isoformat(), own_store, params())
    after = read_performance(own_store.engine, day, day).set_index("ticker")

    relative = ["absolute_percentage_error", "direction_hit", "covered"]
    pd.testing.assert_frame_equal(after[relative], before[relative], rtol=1e-12)
    for shown in ("actual", "predicted", "persistence", "lower", "upper"):
        assert after[shown]["IBM"] == pytest.approx(before[shown]["IBM"] / ratio)
        assert after[shown]["MSFT"] == pytest.approx(before[shown]["MSFT"] * (1 - 2.0 / worth))
