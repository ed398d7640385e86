"""Forecasts: made by the champion of their session, stored only if valid, equal in any range."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy import func, select, text

from stock_assets.cli.platform import Platform
from stock_assets.cli.runs import run_session
from stock_assets.config import Features, Rename, Tracking
from stock_assets.core.locations import find_locations
from stock_assets.defs.resources import Store
from stock_assets.evaluation.production_rule import PERSISTENCE_NAME, PERSISTENCE_VERSION
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.models.forecast_frame import FORECAST_COLUMNS
from stock_assets.models.persistence import Persistence
from stock_assets.pipeline.proof_findings import NUMBERS
from stock_assets.registry import Registry
from stock_assets.storage.forecasts import predictions_as_of, read_performance
from stock_assets.storage.prices import read_bars
from stock_assets.storage.serving.checks import newest_checks
from stock_assets.storage.tables import feature_drift
from stock_assets_tests.conftest import DATASET, FIRST_INGESTED, Loop
from stock_assets_tests.defs.dataset.built import perturbed
from stock_assets_tests.defs.running import (
    by_partition,
    checks,
    data_version,
    failure,
    materialize,
    metadata,
    params,
    versions,
)
from stock_assets_tests.models.bundles import FIRST, LAST, bundle, same_frame, sample_bars
from stock_assets_tests.properties import SLOW_EXAMPLES
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import empty

BEFORE = date(2012, 12, 28)


@pytest.fixture
def registry(loop: Loop) -> Registry:
    return Registry(loop.platform.params.tracking)


def forecasts(loop: Loop, *days: date) -> pd.DataFrame:
    return predictions_as_of(loop.platform.engine, days or loop.replayed)


def count(loop: Loop) -> int:
    with loop.platform.engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM predictions")))


def test_every_session_of_the_range_has_its_forecasts(loop: Loop) -> None:
    recorded = by_partition(loop.forecasts, "predictions")
    assert {key: values["dagster/row_count"] for key, values in recorded.items()} == {
        day.isoformat(): 5 for day in loop.replayed
    }
    assert checks(loop.forecasts) == {"forecasts_are_sound": True}
    stored = forecasts(loop)
    assert len(stored) == 5 * len(loop.replayed)
    assert set(stored["dataset_run_id"]) == {DATASET}
    assert stored["target_session"].min() == pd.Timestamp("2013-01-02")
    assert stored["target_session"].max() == pd.Timestamp("2013-02-01")


def test_check_results_of_every_asset_are_stored(loop: Loop) -> None:
    kept = {(row["asset"], row["check_name"]) for row in newest_checks(loop.platform.engine)}
    assert kept == {
        *(("raw_prices", name) for name in checks(loop.ingest)),
        ("processed_features", "features_are_complete"),
        ("processed_features", "features_do_not_look_ahead"),
        ("scalers", "scalers_fit_on_train_only"),
        ("promotion", "winner_is_fresh"),
        ("predictions", "forecasts_are_sound"),
    }


def test_stored_intervals_are_nested_and_the_last_has_the_stored_bounds(loop: Loop) -> None:
    for row in forecasts(loop).itertuples():
        levels = pd.DataFrame(json.loads(row.intervals))
        assert levels["coverage"].tolist() == [0.5, 0.8, 0.9]
        assert levels["lower"].is_monotonic_decreasing
        assert levels["upper"].is_monotonic_increasing
        assert tuple(levels.iloc[-1]) == (row.lower_price, row.upper_price, row.coverage)


def test_a_range_forecasts_the_same_bits_as_single_days(loop: Loop, registry: Registry) -> None:
    model, stored = registry.load(registry.candidate(DATASET).version), forecasts(loop)
    for day in loop.replayed[::4]:
        known = read_bars(loop.platform.engine, FIRST_INGESTED, day)
        alone = model.forecast(known, [day])
        kept = stored[stored["as_of_session"] == pd.Timestamp(day)][list(FORECAST_COLUMNS)]
        assert same_frame(kept.reset_index(drop=True), alone)


def drift(loop: Loop) -> pd.DataFrame:
    with loop.platform.engine.connect() as connection:
        return pd.read_sql(
            text("SELECT * FROM feature_drift ORDER BY as_of_session, model_version, feature"),
            connection,
            parse_dates=["as_of_session"],
        )


def test_drift_is_stored_beside_the_forecasts(loop: Loop, registry: Registry) -> None:
    version = registry.candidate(DATASET).version
    model, window = registry.load(version), loop.platform.params.monitoring.window_sessions
    stored = drift(loop).query("model_version == @version")
    measured = stored.drop(columns=["model_version", "dagster_run_id", "measured_at"])
    for day in loop.replayed[::4]:
        known = read_bars(loop.platform.engine, FIRST_INGESTED, day)
        alone = model.drift(model.panel(known, day), [day])
        kept = measured[measured["as_of_session"] == pd.Timestamp(day)]
        assert same_frame(kept, alone.sort_values("feature"))
    assert set(stored["rows"]) == {5 * window}
    assert stored["as_of_session"].dt.date.unique().tolist() == list(loop.replayed)


def test_metadata_shows_the_strongest_drift_of_the_newest_session(loop: Loop) -> None:
    recorded = by_partition(loop.forecasts, "predictions")
    shown = recorded[loop.replayed[-1].isoformat()]["strongest_drift"].records
    stored = drift(loop)
    newest = stored[stored["as_of_session"] == pd.Timestamp(loop.replayed[-1])]
    strongest = newest.nlargest(len(shown), "psi")["psi"]
    assert [row.data["psi"] for row in shown] == pytest.approx(strongest.tolist(), rel=1e-5)


def test_a_day_again_changes_nothing(loop: Loop) -> None:
    day, console = loop.replayed[5], Console(quiet=True)
    before, drifted = forecasts(loop), drift(loop)
    first = run_session(loop.platform, console, ["predictions"], day)
    again = run_session(loop.platform, console, ["predictions"], day)
    assert data_version(first, "predictions") == data_version(again, "predictions")
    of_range = by_partition(loop.forecasts, "predictions")[day.isoformat()]
    assert of_range["digest"] == data_version(first, "predictions")
    pd.testing.assert_frame_equal(forecasts(loop), before, check_exact=True)
    pd.testing.assert_frame_equal(drift(loop), drifted, check_exact=True)


def test_the_past_is_forecast_by_the_model_of_its_time(
    loop: Loop, registry: Registry, second_retraining: str
) -> None:
    before = forecasts(loop)
    day = loop.replayed[3]
    result = run_session(loop.platform, Console(quiet=True), ["predictions"], day)
    assert metadata(result, "predictions")["dataset_run_ids"] == DATASET
    pd.testing.assert_frame_equal(forecasts(loop), before, check_exact=True)


def test_persistence_forecasts_a_session_before_any_model(
    loop: Loop, own_store: Store, registry: Registry
) -> None:
    store_bars(own_store.engine, sample_bars(), "sample")
    result = materialize(["predictions"], BEFORE.isoformat(), own_store, params(), registry)
    assert result.success, failure(result)
    made = predictions_as_of(own_store.engine, [BEFORE])
    assert set(made["model_version"]) == {PERSISTENCE_VERSION}
    assert made[["dataset_run_id", "mlflow_run_id"]].isna().all(axis=None)
    assert (made["predicted_price"] == made["last_close"]).all()
    folder = find_locations().forecasts_folder / "historical"
    file = json.loads((folder / f"{calendar.next_session(BEFORE)}.json").read_text())
    assert (file["model"], file["model_mlflow_run_id"]) == (PERSISTENCE_NAME, None)


def test_without_a_model_persistence_forecasts(loop: Loop, own_store: Store) -> None:
    """It has no drift and is not part of MLflow."""
    no_model = Registry(Tracking(model_name="NoModel"))
    store_bars(own_store.engine, sample_bars(), "sample")
    result = materialize(["predictions"], "2013-01-04", own_store, params(), no_model)
    assert result.success, failure(result)
    found = metadata(result, "predictions")
    assert (found["model_versions"], found["models"]) == ("0", PERSISTENCE_NAME)
    rows = predictions_as_of(own_store.engine, [date(2013, 1, 4)])
    expected = Persistence.of(params()).forecast(sample_bars(), [date(2013, 1, 4)])
    pd.testing.assert_frame_equal(rows[list(NUMBERS)], expected[list(NUMBERS)], check_exact=True)
    assert materialize(["performance_log"], "2013-01-07", own_store, params(), no_model).success
    scored = read_performance(own_store.engine, date(2013, 1, 7), date(2013, 1, 7))
    assert scored["absolute_error"].equals(scored["persistence_absolute_error"])
    with own_store.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(feature_drift)) == 0


def test_a_session_without_prices_is_refused(
    loop: Loop, own_store: Store, registry: Registry
) -> None:
    known = sample_bars().query("session <= '2013-02-28'")
    store_bars(own_store.engine, known, "sample")
    result = materialize(["predictions"], "2013-03-01", own_store, params(), registry)
    assert not result.success
    assert "no bar is stored for 2013-03-01" in failure(result)
    command = "stock-assets backfill raw_prices --from 2013-03-01 --to 2013-03-01"
    assert command in failure(result)


def registered(model: Bundle, name: str, folder: Path) -> Registry:
    """A separate registry with a model in production."""
    registry = Registry(Tracking(experiment="forecast", model_name=name))
    registry.client()
    registry.ensure_experiment()
    mlflow.set_experiment("forecast")
    with mlflow.start_run():
        registry.set_production_alias(registry.register(model, sample_bars()).version)
    return registry


def test_invalid_forecasts_are_neither_stored_nor_written(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    sound = bundle()
    store_bars(own_store.engine, sample_bars(), "sample")
    good = registered(sound, "Sound", tmp_path)
    first = materialize(["predictions"], "2013-01-04", own_store, params(), good)
    assert first.success, failure(first)
    files = sorted(find_locations().forecasts_folder.rglob("*.json"))
    contents = [path.read_text() for path in files]

    weights = sound.network.state_dict()
    weights["head.1.bias"] = weights["head.1.bias"] * np.nan
    sound.network.load_state_dict(weights)
    broken = registered(sound, "Unsound", tmp_path)
    result = materialize(["predictions"], "2013-01-07", own_store, params(), broken)
    assert not result.success
    assert checks(result) == {"forecasts_are_sound": False}
    assert versions(result, "predictions") == {}
    (found,) = result.get_asset_check_evaluations()
    assert found.metadata["unsound"].value == 5
    assert {row.data["problem"] for row in found.metadata["rows"].records} == {
        "a price is not finite and positive"
    }
    assert predictions_as_of(own_store.engine, [date(2013, 1, 7)]).empty
    assert sorted(find_locations().forecasts_folder.rglob("*.json")) == files
    assert [path.read_text() for path in files] == contents


def test_a_range_stores_its_valid_sessions_and_scoring_refuses_the_others(
    platform: Platform, own_store: Store, tmp_path: Path
) -> None:
    """A close of zero gives a forecast of zero, which is no price."""
    days = calendar.sessions(date(2013, 1, 4), date(2013, 1, 8))
    registry = registered(bundle(features=Features(groups=["raw"], basis="raw")), "Raw", tmp_path)
    store_bars(own_store.engine, sample_bars(), "sample")
    keys = [day.isoformat() for day in days]
    first = materialize(["predictions"], keys[0], own_store, params(), registry, last=keys[2])
    assert first.success, failure(first)
    wrong = sample_bars().copy()
    at = wrong["ticker"].eq("IBM") & wrong["session"].eq(pd.Timestamp(days[1]))
    wrong.loc[at, ["open", "high", "low", "close"]] = 0.0
    store_bars(own_store.engine, wrong, "sample")
    second = materialize(["predictions"], keys[0], own_store, params(), registry, last=keys[2])
    assert f"forecasts_are_sound failed for {keys[1]}" in failure(second)
    made = versions(second, "predictions")
    assert sorted(made) == [keys[0], keys[2]]
    alone = materialize(["predictions"], keys[0], own_store, params(), registry)
    assert data_version(alone, "predictions") == made[keys[0]]
    assert len(predictions_as_of(own_store.engine, [days[1]])) == 5  # of the first run
    refused = materialize(["performance_log"], keys[2], own_store, params())
    assert f"predictions of {keys[1]} failed forecasts_are_sound" in failure(refused)


def test_tickers_without_bar_or_window_are_reported_and_the_others_forecast(
    loop: Loop, own_store: Store, registry: Registry
) -> None:
    bars = read_bars(loop.platform.engine, FIRST_INGESTED, date(2013, 2, 4))
    suspended = (bars["ticker"] == "IBM") & (bars["session"] == pd.Timestamp("2013-02-04"))
    late = bars["ticker"].eq("MSFT") & (bars["session"] < pd.Timestamp("2013-01-25"))
    store_bars(own_store.engine, bars[~suspended & ~late], "sample")
    wanted = params(prices={"tickers": ["AAPL", "FB", "GOOG", "MSFT", "TSLA"]})
    result = materialize(["predictions"], "2013-02-04", own_store, wanted, registry)
    assert result.success
    recorded = metadata(result, "predictions")
    # The model does not know TSLA, and IBM is no longer in the universe.
    assert recorded["not_forecast"] == {"MSFT": 1, "TSLA": 1}
    assert recorded["dagster/row_count"] == recorded["forecasts"] == 3
    stored = predictions_as_of(own_store.engine, [date(2013, 2, 4)])
    assert stored["ticker"].tolist() == ["AAPL", "FB", "GOOG"]


def stored_forecasts(store: Store, day: date) -> pd.DataFrame:
    return predictions_as_of(store.engine, [day])[list(FORECAST_COLUMNS)]


@settings(
    max_examples=SLOW_EXAMPLES,
    phases=[Phase.generate],  # an example takes seconds: shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(calendar.sessions(date(2012, 11, 1), date(2013, 2, 15))),
    st.sampled_from(["lstm", "lstm_attention", "lstm_cross_attention"]),
    st.integers(0, 2**32 - 1),
)
def test_later_rows_change_no_bit_of_a_forecast(
    loop: Loop, own_store: Store, tmp_path: Path, day: date, architecture: str, seed: int
) -> None:
    """Other prices and volumes after the as-of session, splits, dividends and a newcomer."""
    registry = registered(bundle(architecture), f"Causal {architecture}", tmp_path / str(seed))
    found = []
    for bars in (sample_bars(), perturbed(day, seed)):
        empty(own_store.engine)
        store_bars(own_store.engine, bars, "sample")
        result = materialize(["predictions"], day.isoformat(), own_store, params(), registry)
        assert result.success, failure(result)
        found.append(stored_forecasts(own_store, day))
    assert len(found[0]) >= 4
    assert same_frame(*found)


@pytest.mark.parametrize("first", [date(2000, 3, 1), date(2012, 12, 3)])
def test_a_forecast_reads_the_history_of_its_model_after_a_new_first_session(
    loop: Loop, own_store: Store, tmp_path: Path, first: date
) -> None:
    """Moving averages depend on the start of history, which must be that of training."""
    store_bars(own_store.engine, sample_bars(), "sample")
    averages = bundle(features=Features(groups=["trend"], basis="adjusted"))
    registry = registered(averages, f"History since {first}", tmp_path)
    wanted = params(prices={"first_session": first})
    result = materialize(["predictions"], "2013-01-04", own_store, wanted, registry)
    assert result.success, failure(result)
    expected = averages.forecast(sample_bars(), [date(2013, 1, 4)])
    assert same_frame(stored_forecasts(own_store, date(2013, 1, 4)), expected)


def test_a_ticker_that_was_removed_is_not_forecast_and_its_bars_stay(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    day = date(2013, 1, 4)
    store_bars(own_store.engine, sample_bars(), "sample")
    wanted = params(prices={"tickers": ["AAPL", "FB", "GOOG", "MSFT"]})
    registry = registered(bundle(), "Removed", tmp_path)
    result = materialize(["predictions"], "2013-01-04", own_store, wanted, registry)
    assert result.success, failure(result)
    assert metadata(result, "predictions")["not_forecast"] == {}
    # The network still sees IBM's bars, so that the others are forecast as before.
    before = bundle().forecast(sample_bars(), [day]).query("ticker != 'IBM'")
    assert same_frame(stored_forecasts(own_store, day), before)
    assert len(read_bars(own_store.engine, FIRST, LAST)) == len(sample_bars())


def test_unknown_tickers_are_refused(loop: Loop, own_store: Store, tmp_path: Path) -> None:
    store_bars(own_store.engine, sample_bars(), "sample")
    registry = registered(bundle(), "Elsewhere", tmp_path)
    wanted = params(prices={"tickers": ["TSLA"]})
    result = materialize(["predictions"], "2013-01-04", own_store, wanted, registry)
    assert "no ticker of prices.tickers that the model knows" in failure(result)
    assert "for other tickers, stock-assets retrain" in failure(result)


def test_a_renamed_ticker_is_forecast_by_an_older_model(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    """The bars have the old name: no prices were fetched since the parameters changed."""
    day, meta = date(2013, 1, 4), {"FB": "META"}
    store_bars(own_store.engine, sample_bars(), "sample")
    registered(bundle(), "Renamed", tmp_path)
    rename = Rename(old="FB", new="META", first_session=date(2013, 1, 7))
    edited = params(
        prices={"tickers": ["AAPL", "GOOG", "IBM", "META", "MSFT"], "renames": [rename]},
        tracking={"experiment": "forecast", "model_name": "Renamed"},
    )
    result = materialize(["predictions"], "2013-01-04", own_store, edited)
    assert result.success, failure(result)
    assert metadata(result, "predictions")["not_forecast"] == {}
    before = bundle().forecast(sample_bars(), [day])
    expected = before.assign(ticker=before["ticker"].replace(meta)).sort_values("ticker")
    assert same_frame(stored_forecasts(own_store, day), expected)


def test_the_files_hold_what_is_stored(loop: Loop, registry: Registry) -> None:
    folder = loop.platform.locations.forecasts_folder
    run = registry.version(registry.candidate(DATASET).version).mlflow_run_id
    for day in loop.replayed:
        target = calendar.next_session(day)
        content = json.loads((folder / "historical" / f"{target}.json").read_text())
        stored = forecasts(loop, day)
        assert content == {
            "date": target.isoformat(),
            "predictions": dict(zip(stored["ticker"], stored["predicted_price"], strict=True)),
            "model_mlflow_run_id": run,
        }
    newest = max((folder / "historical").iterdir())
    assert (folder / "latest_predictions.json").read_text() == newest.read_text()
    assert not list(folder.rglob("*.partial"))


def test_the_view_shows_the_newest_session(loop: Loop) -> None:
    with loop.platform.engine.connect() as connection:
        shown = connection.execute(
            text("SELECT ticker, as_of_session FROM latest_predictions ORDER BY ticker")
        ).all()
        newest = connection.scalar(text("SELECT max(as_of_session) FROM predictions"))
    assert [tuple(row) for row in shown] == [
        (ticker, newest) for ticker in ("AAPL", "FB", "GOOG", "IBM", "MSFT")
    ]
