"""Planted leaks, each detected by the checks of every dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stock_assets.config import Dataset, Features, WalkForward
from stock_assets.features.dataset import FeatureSet, build_feature_set
from stock_assets.features.formulas import FloatArray, rolling_mean
from stock_assets.features.indicators import FEATURES
from stock_assets.features.lookahead import (
    find_lookahead,
    find_wrong_labels,
    has_scaler_leak,
    has_selection_leak,
)
from stock_assets.features.panel import Panel, build_panel
from stock_assets.features.scaling import Scaler, blocks, fit_scaler, fit_scalers
from stock_assets.features.splits import ONE_FOLD, Segment, split_dataset
from stock_assets_tests.features.examples import FIRST, as_frame, session_dates, walk

GROUPS = Features(groups=["raw", "trend", "momentum", "volatility", "volume", "returns"])
DATASET = Dataset(window=10, validation_sessions=30, test_sessions=20)
ROWS = 320
AS_OF = session_dates(ROWS)[-1].date()
BARS = as_frame({name: walk(ROWS, seed) for seed, name in enumerate(("AAA", "BBB"))})


def centred_window(close: FloatArray, window: int) -> FloatArray:
    """Centre a moving average on its window."""
    return np.roll(rolling_mean(close, window), -(window // 2))


def shifted_the_wrong_way(close: FloatArray, window: int) -> FloatArray:
    """Return the change to a later session instead of since an earlier one."""
    return np.append(close, np.full(window, close[-1]))[window:] / close - 1.0


def filled_backward(close: FloatArray, window: int) -> FloatArray:
    """Fill the warm-up of a moving average with its first value."""
    return pd.Series(rolling_mean(close, window)).bfill().to_numpy(copy=True)


def scaled_by_all_of_history(close: FloatArray, window: int) -> FloatArray:
    """Divide by the mean of all sessions, later ones included."""
    return close / close.mean()


def ranked_in_all_of_history(close: FloatArray, window: int) -> FloatArray:
    """Rank among all sessions, later ones included."""
    return np.argsort(np.argsort(close)) / len(close)


def bars_with_gaps() -> pd.DataFrame:
    """Return bars with gaps: AAA is halted twice, BBB is listed late, CCC is delisted early."""
    bars = as_frame({name: walk(ROWS, seed) for seed, name in enumerate(("AAA", "BBB", "CCC"))})
    days = session_dates(ROWS)
    gone = (bars["ticker"] == "AAA") & bars["session"].isin([*days[100:110], *days[250:253]])
    gone |= (bars["ticker"] == "BBB") & (bars["session"] < days[60])
    gone |= (bars["ticker"] == "CCC") & (bars["session"] > days[200])
    return bars[~gone].reset_index(drop=True)


GAPPY = bars_with_gaps()


def built(
    features: Features = GROUPS,
    dataset: Dataset = DATASET,
    bars: pd.DataFrame = BARS,
    folds: WalkForward = ONE_FOLD,
) -> FeatureSet:
    return build_feature_set(bars, features, dataset, FIRST, AS_OF, folds)


def filled(panel: Panel, values: np.ndarray, close: np.ndarray) -> Panel:
    """Mark all rows with values as valid."""
    return replace(panel, values=values, close=close, valid=np.isfinite(values).all(axis=2))


def backward(values: np.ndarray, limit: int | None = None) -> np.ndarray:
    wide = pd.DataFrame(values.reshape(len(values), -1))
    return wide.bfill(limit=limit).to_numpy(values.dtype).reshape(values.shape)


def gaps_filled_backward(panel: Panel) -> Panel:
    return filled(panel, backward(panel.values), backward(panel.close))


def closes_filled_backward(panel: Panel) -> Panel:
    return replace(panel, close=backward(panel.close))


def session_before_a_bar_filled(panel: Panel) -> Panel:
    return filled(panel, backward(panel.values, 1), panel.close)


def gaps_interpolated(panel: Panel) -> Panel:
    wide = pd.DataFrame(panel.values.reshape(len(panel.values), -1))
    between = wide.interpolate(limit_area="inside").to_numpy(np.float32)
    return filled(panel, between.reshape(panel.values.shape), panel.close)


def survivors_only(panel: Panel) -> Panel:
    survives = np.isfinite(panel.close[-1])
    values = np.where(survives[:, np.newaxis], panel.values, np.float32(np.nan))
    return replace(panel, values=values, valid=panel.valid & survives)


def valid_only_if_traded_next(panel: Panel) -> Panel:
    follows = np.append(np.isfinite(panel.close[1:]), np.zeros((1, panel.close.shape[1])), axis=0)
    return replace(panel, valid=panel.valid & follows.astype(bool))


@pytest.mark.parametrize(
    "leak",
    [
        gaps_filled_backward,
        closes_filled_backward,
        session_before_a_bar_filled,
        gaps_interpolated,
        survivors_only,
        valid_only_if_traded_next,
    ],
)
def test_find_lookahead_detects_filled_and_masked_values(
    leak: Callable[[Panel], Panel], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("dataset", "lookahead"):
        monkeypatch.setattr(
            f"stock_assets.features.{module}.build_panel",
            lambda *arguments: leak(build_panel(*arguments)),
        )
    momentum = Features(groups=["momentum"])
    assert find_lookahead(built(momentum, bars=GAPPY), momentum, 20)


def test_find_lookahead_detects_masked_sessions_before_a_delisting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mask(panel: Panel) -> Panel:
        traded = np.isfinite(panel.close)
        last = len(traded) - 1 - traded[::-1].argmax(axis=0)
        final = np.arange(len(traded))[:, np.newaxis] > last - 5
        return replace(panel, valid=panel.valid & ~(final & ~traded[-1]))

    delisted = (BARS["ticker"] == "BBB") & (BARS["session"] > session_dates(ROWS)[200])
    bars = BARS[~delisted].reset_index(drop=True)
    for module in ("dataset", "lookahead"):
        monkeypatch.setattr(
            f"stock_assets.features.{module}.build_panel",
            lambda *arguments: mask(build_panel(*arguments)),
        )
    momentum = Features(groups=["momentum"])
    assert find_lookahead(built(momentum, bars=bars), momentum, 20) == ["valid"]


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
def test_find_lookahead_detects_a_feature_that_looks_ahead(
    leak: Callable[..., FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = replace(FEATURES["RSI"], formula=leak, window=60, warm_up=0)
    monkeypatch.setitem(FEATURES, "RSI", planted)
    momentum = Features(groups=["momentum"])
    data = built(momentum)
    assert "RSI" in find_lookahead(data, momentum, 20)


def test_find_lookahead_accepts_all_declared_features() -> None:
    every = Features(groups=[*GROUPS.groups, "alpha158"])
    assert find_lookahead(built(every), every, 20) == []
    assert find_lookahead(built(every, bars=GAPPY), every, 20) == []


def test_find_lookahead_does_not_depend_on_block_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = built()
    data.panel.values[250, 1, 3] += 1.0
    monkeypatch.setattr("stock_assets.features.scaling.BLOCK_NUMBERS", 1)
    assert list(blocks(3, 10)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert find_lookahead(data, GROUPS, 20) == [data.panel.features[3]]


@pytest.mark.parametrize("target", ["log_return", "close"])
def test_find_wrong_labels_accepts_next_closes(target: str) -> None:
    data = built(dataset=DATASET.model_copy(update={"target": target}))
    assert not find_wrong_labels(data, target).any()


@pytest.mark.parametrize("target", ["log_return", "close"])
@pytest.mark.parametrize("sessions", [-1, 1])
def test_find_wrong_labels_detects_shifts(target: str, sessions: int) -> None:
    data = built(dataset=DATASET.model_copy(update={"target": target}))
    shifted = replace(data, target=np.roll(data.target, sessions, axis=0))
    assert find_wrong_labels(shifted, target).mean() > 0.9


def test_find_wrong_labels_detects_a_label_of_the_last_session() -> None:
    data = built()
    data.target[-1, 0] = 0.0
    assert np.argwhere(find_wrong_labels(data, "log_return")).tolist() == [[ROWS - 1, 0]]


def training(data: FeatureSet) -> Segment:
    return split_dataset(len(data.panel.sessions), DATASET).train


def leak_of(fitted: tuple[Scaler, Scaler], data: FeatureSet, dataset: Dataset) -> bool:
    panel = data.panel
    return has_scaler_leak(fitted, panel.values, panel.valid, data.target, training(data), dataset)


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_scaler_leak_of_a_single_session_is_detected(kind: str) -> None:
    data, dataset = built(), DATASET.model_copy(update={"scaler": kind})
    train, panel = training(data), data.panel
    for later, leaks in ((0, False), (1, True)):
        known = replace(train, last=train.last + later)
        fitted = fit_scalers(panel.values, panel.valid, data.target, known, dataset)
        assert leak_of(fitted, data, dataset) is leaks


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_scaler_leak_of_all_sessions_is_detected(kind: str) -> None:
    data, dataset = built(), DATASET.model_copy(update={"scaler": kind})
    own = fit_scalers(data.panel.values, data.panel.valid, data.target, training(data), dataset)
    everything = fit_scaler(data.panel.values, data.panel.valid, kind)
    assert leak_of((everything, own[1]), data, dataset)
    labels = fit_scaler(data.target[..., None], np.isfinite(data.target), "zero_mean")
    assert leak_of((own[0], labels), data, dataset)


CORRELATED = Features(groups=["raw", "trend", "momentum"], correlation_threshold=0.9)
ROLLING = WalkForward(folds=4, training="rolling")


@pytest.mark.parametrize("folds", [ONE_FOLD, ROLLING], ids=["one", "rolling"])
def test_selection_on_the_train_segment_is_no_leak(folds: WalkForward) -> None:
    data = built(CORRELATED, folds=folds)
    assert data.dropped_features
    assert not has_selection_leak(data, CORRELATED, DATASET, folds)
    assert not has_selection_leak(built(), Features(), DATASET, folds)


@pytest.mark.parametrize("later", [1, 50])
def test_selection_on_later_sessions_is_detected(
    monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    def beyond(sessions, dataset, folds):
        split = split_dataset(sessions, dataset, folds)
        return replace(split, train=replace(split.train, last=split.train.last + later))

    found = []
    monkeypatch.setattr("stock_assets.features.dataset.split_dataset", beyond)
    for threshold in np.arange(0.5, 1, 0.02):
        close = CORRELATED.model_copy(update={"correlation_threshold": threshold})
        data = built(close)
        found.append(has_selection_leak(data, close, DATASET, ONE_FOLD))
    assert any(found), "no threshold was decided by later sessions"
