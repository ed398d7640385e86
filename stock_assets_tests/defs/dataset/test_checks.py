"""A dataset that a check or its input refuses is not materialized, and nothing is stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from stock_assets.core.errors import StockAssetsError
from stock_assets.defs.resources import Store
from stock_assets.features.indicators import FEATURES
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import fit_scalers
from stock_assets.storage.datasets import load_scalers
from stock_assets_tests.defs.dataset.built import KEY, SMALL, STAGE, made, recent, stored
from stock_assets_tests.defs.running import checks, failure, materialize, params
from stock_assets_tests.storage.examples import store_bars


def test_a_feature_that_looks_ahead_stops_the_dataset(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tomorrow(close: np.ndarray, window: int) -> np.ndarray:
        return np.append(close[1:], close[-1:]) / close

    monkeypatch.setitem(FEATURES, "RSI", replace(FEATURES["RSI"], formula=tomorrow))
    result = made(own_store, recent())
    assert not result.success
    assert checks(result)["features_do_not_look_ahead"] is False
    (found,) = [
        part
        for part in result.get_asset_check_evaluations()
        if part.check_name == "features_do_not_look_ahead"
    ]
    assert found.metadata["what_looks_ahead"].value == ["RSI"]
    assert not result.asset_materializations_for_node("processed_features")
    assert not result.asset_materializations_for_node("scalers")


def test_a_failed_check_keeps_the_earlier_dataset_and_refuses_downstream_assets(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of the session after the next, planted where the dataset is built."""
    assert made(own_store, recent()).success
    before = stored(own_store, KEY)

    def one_late(close: np.ndarray, target: str) -> np.ndarray:
        return np.roll(session_labels(close, target), -1, axis=0)

    monkeypatch.setattr("stock_assets.features.dataset.session_labels", one_late)
    changed = recent()
    changed.loc[changed["session"] == pd.Timestamp("2012-10-26"), "close"] *= 1.0001
    result = made(own_store, changed)
    assert not result.success
    (found,) = [part for part in result.get_asset_check_evaluations() if not part.passed]
    assert found.check_name == "features_do_not_look_ahead"
    assert found.metadata["wrong_labels"].value > 0
    assert stored(own_store, KEY) == before
    for asset in ("scalers", "scaled_features", "tuned_params", "candidate_model", "promotion"):
        refused = materialize([asset], KEY, own_store, params())
        assert f"processed_features of {KEY} failed features_do_not_look_ahead" in failure(refused)


def test_selection_by_later_sessions_stops_the_dataset(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_the_end(values, valid, names, threshold):
        return dict.fromkeys(names[1:3], names[0])

    monkeypatch.setattr("stock_assets.features.dataset.find_redundant_features", to_the_end)
    groups = {"groups": ["raw", "momentum"], "correlation_threshold": 0.9}
    result = made(own_store, recent(), features=groups)
    assert not result.success
    (found,) = [part for part in result.get_asset_check_evaluations() if not part.passed]
    assert found.metadata["choice_of_features_looks_ahead"].value is True


def test_scalers_fitted_on_later_sessions_stop_the_dataset(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_everything(values, valid, target, train, dataset):
        return fit_scalers(values, valid, target, replace(train, last=len(values) - 2), dataset)

    monkeypatch.setattr("stock_assets.datasets.build.fit_scalers", on_everything)
    result = made(own_store, recent())
    assert not result.success
    assert checks(result)["scalers_fit_on_train_only"] is False
    assert not result.asset_materializations_for_node("scaled_features")
    with pytest.raises(StockAssetsError):
        load_scalers(own_store.engine, KEY)


def test_a_moment_in_the_future_is_refused(own_store: Store) -> None:
    store_bars(own_store.engine, recent(), "sample")
    config = {"processed_features": {"known_at": "2999-01-01T00:00:00Z"}}
    result = materialize(STAGE, KEY, own_store, params(dataset=SMALL), config=config)
    assert "in the future" in failure(result)


def test_a_ticker_without_a_training_window_is_reported(own_store: Store) -> None:
    result = made(own_store, recent(), "20120531_120000")
    assert result.success
    assert checks(result)["features_are_complete"] is True
    (found,) = [
        part
        for part in result.get_asset_check_evaluations()
        if part.check_name == "features_are_complete"
    ]
    assert found.metadata["tickers_not_learned_from"].value == ["FB"]
    assert result.asset_materializations_for_node("scalers")


@pytest.mark.parametrize(
    ("key", "recorded"),
    [("20121225_120000", "is not a trading session"), ("2012_1", "is not a dataset id")],
)
def test_a_wrong_id_is_refused(own_store: Store, key: str, recorded: str) -> None:
    result = made(own_store, recent(), key)
    assert not result.success
    assert recorded in failure(result)


def test_too_little_history_is_refused(own_store: Store) -> None:
    few = recent().query("session >= '2012-10-01' and ticker != 'FB'")
    result = made(own_store, few.reset_index(drop=True))
    assert not result.success
    message = failure(result)
    assert "sessions of history are too few" in message or "features_are_complete" in message


def test_too_few_validation_sessions_are_refused_before_training(own_store: Store) -> None:
    result = made(own_store, recent(), dataset={"validation_sessions": 2})
    assert "2 validation sessions are too few" in failure(result)
    assert not result.asset_materializations_for_node("processed_features")


def test_without_prices_the_remedy_is_a_command(own_store: Store) -> None:
    result = materialize(STAGE, KEY, own_store, params(dataset=SMALL))
    assert "stock-assets backfill raw_prices --from" in failure(result)
    assert date(2012, 10, 26).isoformat() in failure(result)
