"""Leaks that are planted on purpose, each caught by what examines every dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stock_assets.config import Dataset, Features, WalkForward
from stock_assets.features.dataset import FeatureSet, build_feature_set
from stock_assets.features.division import fit_scalers, split_dataset
from stock_assets.features.formulas import FloatArray, window_mean
from stock_assets.features.indicators import FEATURES
from stock_assets.features.lookahead import (
    changed_by_the_future,
    scalers_know_more_than_training,
    selection_knows_more_than_training,
    wrong_labels,
)
from stock_assets.features.scaling import blocks, fit_scaler
from stock_assets_tests.features.examples import FIRST, as_frame, session_dates, walk

GROUPS = Features(groups=["raw", "trend", "momentum", "volatility", "volume", "returns"])
DATASET = Dataset(window=10, validation_sessions=30, test_sessions=20)
ROWS = 320
AS_OF = session_dates(ROWS)[-1].date()
BARS = as_frame({name: walk(ROWS, seed) for seed, name in enumerate(("AAA", "BBB"))})


def centred_window(close: FloatArray, window: int) -> FloatArray:
    """A moving average that is put at the middle of its window."""
    return np.roll(window_mean(close, window), -(window // 2))


def shifted_the_wrong_way(close: FloatArray, window: int) -> FloatArray:
    """The change to a later session instead of the change since an earlier one."""
    return np.append(close, np.full(window, close[-1]))[window:] / close - 1.0


def filled_backward(close: FloatArray, window: int) -> FloatArray:
    """A moving average whose warm-up holds its first value."""
    return pd.Series(window_mean(close, window)).bfill().to_numpy(copy=True)


def scaled_by_all_of_history(close: FloatArray, window: int) -> FloatArray:
    """A price in units of its mean over everything, later sessions too."""
    return close / close.mean()


def ranked_in_all_of_history(close: FloatArray, window: int) -> FloatArray:
    """The share of all closes, later ones too, that lie below."""
    return np.argsort(np.argsort(close)) / len(close)


def built(features: Features = GROUPS, dataset: Dataset = DATASET) -> FeatureSet:
    return build_feature_set(BARS, features, dataset, FIRST, AS_OF)


@pytest.mark.parametrize(
    "leak",
    [
        centred_window,
        shifted_the_wrong_way,
        filled_backward,
        scaled_by_all_of_history,
        ranked_in_all_of_history,
    ],
)
def test_a_feature_that_looks_ahead_is_caught(
    leak: Callable[..., FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = replace(FEATURES["RSI"], formula=leak, window=60, warm_up=0)
    monkeypatch.setitem(FEATURES, "RSI", planted)
    momentum = Features(groups=["momentum"])
    made = built(momentum)
    assert changed_by_the_future(made, momentum, 20)[made.panel.features.index("RSI")]


def test_nothing_that_is_declared_is_caught() -> None:
    every = Features(groups=[*GROUPS.groups, "alpha158"])
    assert not changed_by_the_future(built(every), every, 20).any()


def test_it_makes_no_difference_how_much_is_compared_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = built()
    made.panel.values[250, 1, 3] += 1.0
    monkeypatch.setattr("stock_assets.features.scaling.BLOCK_NUMBERS", 1)
    assert list(blocks(3, 10)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert np.flatnonzero(changed_by_the_future(made, GROUPS, 20)).tolist() == [3]


@pytest.mark.parametrize("target", ["log_return", "close"])
def test_labels_of_the_next_close_are_right(target: str) -> None:
    made = built(dataset=DATASET.model_copy(update={"target": target}))
    assert not wrong_labels(made, target).any()


@pytest.mark.parametrize("target", ["log_return", "close"])
@pytest.mark.parametrize("sessions", [-1, 1])
def test_labels_shifted_either_way_are_caught(target: str, sessions: int) -> None:
    made = built(dataset=DATASET.model_copy(update={"target": target}))
    shifted = replace(made, target=np.roll(made.target, sessions, axis=0))
    assert wrong_labels(shifted, target).mean() > 0.9


def test_a_label_that_nobody_can_know_yet_is_caught() -> None:
    made = built()
    made.target[-1, 0] = 0.0
    assert np.argwhere(wrong_labels(made, "log_return")).tolist() == [[ROWS - 1, 0]]


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_scalers_fitted_on_training_alone_pass(kind: str) -> None:
    assert not scalers_know_more_than_training(
        built(), DATASET.model_copy(update={"scaler": kind}), WalkForward()
    )


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_scalers_fitted_on_everything_are_caught(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_everything(values, valid, target, split, dataset):
        labels = target[..., None]
        return (
            fit_scaler(values, valid, dataset.scaler),
            fit_scaler(labels, np.isfinite(target) & valid, "zero_mean"),
        )

    monkeypatch.setattr("stock_assets.features.lookahead.fit_scalers", on_everything)
    assert scalers_know_more_than_training(
        built(), DATASET.model_copy(update={"scaler": kind}), WalkForward()
    )


CORRELATED = Features(groups=["raw", "trend", "momentum"], correlation_threshold=0.9)


def test_features_chosen_by_training_alone_pass() -> None:
    made = built(CORRELATED)
    assert made.represented
    assert not selection_knows_more_than_training(made, CORRELATED, DATASET)
    assert not selection_knows_more_than_training(built(), Features(), DATASET)


def test_features_chosen_by_later_sessions_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def to_the_end(sessions, dataset):
        split = split_dataset(sessions, dataset)
        return replace(split, train=replace(split.train, last=sessions - 1))

    monkeypatch.setattr("stock_assets.features.dataset.split_dataset", to_the_end)
    assert selection_knows_more_than_training(built(CORRELATED), CORRELATED, DATASET)


def test_a_scaler_that_knows_one_session_too_many_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_more(values, valid, target, train, dataset):
        later = replace(train, last=train.last + 1)
        return fit_scalers(values, valid, target, later, dataset)

    monkeypatch.setattr("stock_assets.features.lookahead.fit_scalers", one_more)
    assert scalers_know_more_than_training(built(), DATASET, WalkForward())
