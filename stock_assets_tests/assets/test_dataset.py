"""A dataset: made of what was known, scaled by its training sessions, checked before use."""

from __future__ import annotations

from datetime import date

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from stock_assets.assets.dataset import processed_features, scaled_features, scalers
from stock_assets.config import Params
from stock_assets.features.dataset import HORIZON
from stock_assets.features.scaling import Scaler, fit_scaler
from stock_assets.market import calendar
from stock_assets.market.sources.sample import load_sample
from stock_assets.resources import Store
from stock_assets.storage.datasets import load_panel, load_scalers, load_stretches
from stock_assets_tests.assets.running import (
    checks,
    data_version,
    failure,
    materialize,
    metadata,
    params,
)
from stock_assets_tests.conftest import AS_OF, DATASET, Loop
from stock_assets_tests.storage.examples import store_bars

STAGE = [processed_features, scalers, scaled_features]
SMALL = {"window": 10, "validation_sessions": 30, "test_sessions": 20, "history_sessions": 250}
KEY = "20121026_120000"


def recent() -> pd.DataFrame:
    bars = load_sample()
    return bars[bars["session"] >= "2011-06-01"].reset_index(drop=True)


def made(store: Store, bars: pd.DataFrame, key: str = KEY) -> dg.ExecuteInProcessResult:
    store_bars(store.engine, bars, "sample")
    return materialize(STAGE, key, store, params(dataset=SMALL))


def test_the_record_tells_what_the_dataset_was_made_from(loop: Loop) -> None:
    record = load_panel(loop.platform.engine, DATASET)
    assert (record.as_of_session, record.last_session) == (AS_OF, AS_OF)
    assert record.tickers == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert len(calendar.sessions(record.first_session, AS_OF)) == 700
    assert Params.model_validate(record.params) == loop.platform.params
    assert set(record.anchors) == set(record.tickers)


def test_the_arrays_and_the_parquet_file_hold_the_panel(loop: Loop) -> None:
    record, arrays = load_panel(loop.platform.engine, DATASET), loop.store.arrays
    tensors = arrays.read_tensors(record.location)
    assert tensors["values"].shape == (700, 5, len(record.features))
    assert tensors["valid"].any(axis=0).all()
    assert np.isfinite(tensors["values"][tensors["valid"]]).all()
    assert np.isnan(tensors["target"][-HORIZON:]).all()
    frame = arrays.read_frame(record.frame_location)
    assert len(frame) == 700 * 5
    np.testing.assert_array_equal(frame["target"], tensors["target"].ravel())
    np.testing.assert_array_equal(frame[record.features[0]], tensors["values"][:, :, 0].ravel())


def test_the_stretches_are_in_order_and_purged(loop: Loop) -> None:
    record = load_panel(loop.platform.engine, DATASET)
    stretches = load_stretches(loop.platform.engine, DATASET)
    days, dataset = (
        calendar.sessions(record.first_session, AS_OF),
        loop.platform.params.dataset,
    )
    train, validation, test = (stretches[name] for name in ("train", "validation", "test"))
    for part in (train, validation, test):
        assert part.first_session == days[part.first_position]
        assert part.last_session == days[part.last_position]
    for before, after in ((train, validation), (validation, test)):
        label = before.last_position + HORIZON
        assert label < after.first_position - dataset.window + 1
        assert before.purge_sessions == dataset.window + HORIZON - 1
    assert days[test.last_position + HORIZON] == AS_OF


def test_scalers_and_scaled_arrays_follow_from_the_training_sessions(loop: Loop) -> None:
    engine, arrays = loop.platform.engine, loop.store.arrays
    record, stretches = load_panel(engine, DATASET), load_stretches(engine, DATASET)
    stored = [Scaler.from_dict(part) for part in load_scalers(engine, DATASET)]
    tensors = arrays.read_tensors(record.location)
    stop = stretches["train"].last_position + 1
    again = fit_scaler(tensors["values"][:stop], tensors["valid"][:stop], "standard")
    assert again.to_dict() == stored[0].to_dict()
    assert stored[1].kind == "zero_mean"
    assert stored[0].pooled.tolist() == [False, True, False, False, False]  # FB is young
    scaled = arrays.read_tensors(stretches["train"].location)
    np.testing.assert_array_equal(
        scaled["values"][tensors["valid"]],
        again.transform(tensors["values"])[tensors["valid"]],
    )
    assert not scaled["values"][~tensors["valid"]].any()


def test_every_check_passes_and_what_follows_is_made(own_store: Store) -> None:
    result = made(own_store, recent())
    assert result.success
    assert checks(result) == {"features_are_complete": True, "features_do_not_look_ahead": True}
    told = metadata(result, "processed_features")
    assert (told["dataset_run_id"], told["as_of_session"]) == (KEY, "2012-10-26")
    assert told["dagster/row_count"] == sum(told["valid_sessions"].values())
    assert metadata(result, "scaled_features")["purge_sessions"] == 10


def test_making_it_again_gives_the_same_versions_and_files(own_store: Store) -> None:
    first, again = made(own_store, recent()), made(own_store, recent())
    for asset in ("processed_features", "scalers", "scaled_features"):
        assert data_version(first, asset) == data_version(again, asset)
    files = {path.name for path in own_store.arrays.local_path("").rglob("*") if path.is_file()}
    assert len(files) == 3


def test_nothing_after_the_as_of_session_changes_it(own_store: Store) -> None:
    first = made(own_store, recent())
    changed = recent()
    later = changed["session"] > pd.Timestamp("2012-10-26")
    changed.loc[later, ["open", "high", "low", "close"]] *= 3
    changed.loc[changed.index[later][::9], "stock_splits"] = 2.0
    again = made(own_store, changed)
    for asset in ("processed_features", "scalers", "scaled_features"):
        assert data_version(first, asset) == data_version(again, asset)
    record = load_panel(own_store.engine, KEY)
    assert metadata(first, "processed_features")["bars_digest"] == record.bars_digest


def test_a_change_before_the_as_of_session_shows(own_store: Store) -> None:
    first = made(own_store, recent())
    changed = recent()
    before = changed["session"] == pd.Timestamp("2012-10-26")
    changed.loc[before, "close"] *= 1.0001
    again = made(own_store, changed)
    assert data_version(first, "processed_features") != data_version(again, "processed_features")


def test_a_ticker_without_a_valid_session_stops_the_dataset(own_store: Store) -> None:
    result = made(own_store, recent(), "20120531_120000")
    assert not result.success
    assert checks(result)["features_are_complete"] is False
    assert checks(result)["features_do_not_look_ahead"] is True
    (found,) = [
        part
        for part in result.get_asset_check_evaluations()
        if part.check_name == "features_are_complete"
    ]
    assert found.description == "values are finite; no valid session: FB"
    assert not result.asset_materializations_for_node("scalers")


@pytest.mark.parametrize(
    ("key", "told"),
    [("20121225_120000", "is not a trading session"), ("2012_1", "is not a dataset id")],
)
def test_a_wrong_id_is_told(own_store: Store, key: str, told: str) -> None:
    result = made(own_store, recent(), key)
    assert not result.success
    assert told in failure(result)


def test_too_little_history_is_told(own_store: Store) -> None:
    few = recent().query("session >= '2012-10-01' and ticker != 'FB'")
    result = made(own_store, few.reset_index(drop=True))
    assert not result.success
    message = failure(result)
    assert "sessions of history are too few" in message or "features_are_complete" in message


def test_without_prices_the_remedy_is_a_command(own_store: Store) -> None:
    result = materialize(STAGE, KEY, own_store, params(dataset=SMALL))
    assert "stock-assets backfill raw_prices --from" in failure(result)
    assert date(2012, 10, 26).isoformat() in failure(result)
