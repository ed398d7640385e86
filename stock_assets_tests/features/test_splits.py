"""Splits: segments and folds share no label; scalers fit the train segment only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.config import Dataset, Features, WalkForward
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.dataset import build_feature_set
from stock_assets.features.scaling import fit_reference, fit_scalers
from stock_assets.features.splits import (
    Segment,
    Split,
    fold_splits,
    segment_sessions,
    sessions_read,
    split_dataset,
    split_sessions,
    split_validation,
)
from stock_assets.market import calendar
from stock_assets_tests.features.examples import FIRST, property_test
from stock_assets_tests.features.test_dataset import (
    AS_OF,
    BARS,
    DATASET,
    arrays,
    built,
    scalers_of,
)

datasets = st.builds(
    Dataset,
    window=st.integers(1, 40),
    prediction_length=st.integers(1, 5),
    validation_sessions=st.integers(1, 30),
    test_sessions=st.integers(1, 30),
    embargo_sessions=st.integers(0, 10),
)
walk_forwards = st.builds(
    WalkForward, folds=st.integers(1, 5), training=st.sampled_from(["expanding", "rolling"])
)
spare_sessions = st.integers(0, 100)


def purge_of(dataset: Dataset) -> int:
    return dataset.prediction_length - 1 + dataset.embargo_sessions


def sessions_needed(dataset: Dataset, folds: int = 1) -> int:
    """Length of the shortest history with one training window."""
    segments = dataset.validation_sessions + folds * dataset.test_sessions
    return dataset.window + segments + dataset.prediction_length + 2 * purge_of(dataset)


def inputs_of(segment: Segment, dataset: Dataset) -> set[int]:
    return set(range(segment.first - dataset.window + 1, segment.last + 1))


def labels_of(segment: Segment, dataset: Dataset) -> set[int]:
    return set(range(segment.first + 1, segment.last + dataset.prediction_length + 1))


def test_split_of_an_ordinary_history() -> None:
    split = split_sessions(1000, Dataset())
    assert split == Split(Segment(29, 809), Segment(810, 935), Segment(936, 998), purge=0)


@property_test
@given(datasets, spare_sessions)
def test_split_shares_no_label_between_segments(dataset, spare) -> None:
    split = split_sessions(sessions_needed(dataset) + spare, dataset)
    for earlier, later in ((split.train, split.validation), (split.validation, split.test)):
        gap = min(labels_of(later, dataset)) - max(labels_of(earlier, dataset)) - 1
        assert gap == dataset.embargo_sessions
        assert later.first - earlier.last - 1 == split.purge == purge_of(dataset)


@property_test
@given(datasets, spare_sessions)
def test_split_uses_all_sessions(dataset, spare) -> None:
    count = sessions_needed(dataset) + spare
    split = split_sessions(count, dataset)
    lengths = [len(segment) for segment in (split.train, split.validation, split.test)]
    assert lengths == [1 + spare, dataset.validation_sessions, dataset.test_sessions]
    assert min(inputs_of(split.train, dataset)) == 0
    assert max(labels_of(split.test, dataset)) == count - 1


@property_test
@given(datasets, st.integers(1, 200))
def test_split_error_states_the_needed_history(dataset, missing) -> None:
    needed = sessions_needed(dataset)
    with pytest.raises(StockAssetsError) as caught:
        split_sessions(needed - missing, dataset)
    assert {str(needed - missing), str(needed)} <= set(caught.value.problem.split())


@property_test
@given(datasets, walk_forwards, spare_sessions)
def test_folds_are_splits_of_shorter_histories(dataset, folds, spare) -> None:
    count = sessions_needed(dataset, folds.folds) + spare
    splits = fold_splits(count, dataset, folds)
    assert len(splits) == folds.folds
    assert splits[0].train.first == dataset.window - 1
    for later, split in enumerate(reversed(splits)):
        alone = split_sessions(count - later * dataset.test_sessions, dataset)
        assert replace(split, train=alone.train) == alone
        assert split.train.last == alone.train.last
        expected = alone.train if folds.training == "expanding" else splits[0].train
        assert len(split.train) == len(expected)


@property_test
@given(datasets, walk_forwards, spare_sessions)
def test_folds_have_adjacent_test_segments(dataset, folds, spare) -> None:
    count = sessions_needed(dataset, folds.folds) + spare
    splits = fold_splits(count, dataset, folds)
    ends = np.concatenate([split.test.positions() for split in splits])
    np.testing.assert_array_equal(np.diff(ends), 1)
    assert ends[-1] + dataset.prediction_length == count - 1


def test_sessions_read_are_the_inputs_of_a_segment() -> None:
    dataset = Dataset(window=10)
    read = sessions_read(Segment(9, 20), dataset.window)
    assert set(range(30)[read]) == inputs_of(Segment(9, 20), dataset) == set(range(21))


def test_folds_beyond_history_are_an_error() -> None:
    dataset = Dataset(window=10, validation_sessions=30, test_sessions=40)
    with pytest.raises(StockAssetsError, match="first of 9 folds") as caught:
        fold_splits(300, dataset, WalkForward(folds=9))
    assert "walk_forward.folds" in caught.value.remedy


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_scalers_ignore_sessions_after_the_train_segment(seed: int) -> None:
    data = built(features=Features(groups=["returns"]))
    split = split_dataset(len(data.panel.sessions), DATASET)
    known = split.train.last + 1
    random = np.random.default_rng(seed)
    changed = {name: value.copy() for name, value in arrays(data).items()}
    for name in ("values", "target"):
        changed[name][known:] = random.normal(size=changed[name][known:].shape)
    changed["valid"][known:] = random.random(changed["valid"][known:].shape) > 0.5
    before, after = scalers_of(data), fit_scalers(**changed, train=split.train, dataset=DATASET)
    for left, right in zip(before, after, strict=True):
        assert left.to_dict() == right.to_dict()


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_drift_reference_ignores_sessions_after_the_train_segment(seed: int) -> None:
    data = built(features=Features(groups=["returns"]))
    split, random = split_dataset(len(data.panel.sessions), DATASET), np.random.default_rng(seed)
    known, scaler = split.train.last + 1, scalers_of(data)[0]
    values, valid = data.panel.values.copy(), data.panel.valid.copy()
    before = fit_reference(values, valid, scaler, split.train, DATASET.window, 20)
    assert before.rows == valid[:known].sum()
    values[known:] = random.normal(size=values[known:].shape)
    valid[known:] = random.random(valid[known:].shape) > 0.5
    after = fit_reference(values, valid, scaler, split.train, DATASET.window, 20)
    assert after.to_dict() == before.to_dict()


def test_drift_reference_does_not_depend_on_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = built(features=Features(groups=["returns"]))
    panel, split = data.panel, split_dataset(len(data.panel.sessions), DATASET)
    arguments = panel.values, panel.valid, scalers_of(data)[0], split.train, DATASET.window, 20
    whole = fit_reference(*arguments)
    monkeypatch.setattr("stock_assets.features.scaling.BLOCK_NUMBERS", 1)
    parts = fit_reference(*arguments)
    assert parts.to_dict() == whole.to_dict()


def test_scalers_use_the_last_training_session() -> None:
    data = built(features=Features(groups=["returns"]))
    split = split_dataset(len(data.panel.sessions), DATASET)
    data.panel.values[split.train.last, 0, 0] += 1
    changed = scalers_of(data)[0].to_dict()
    assert changed != scalers_of(built(features=Features(groups=["returns"])))[0].to_dict()


@pytest.mark.parametrize(
    ("target", "scaler", "kind"),
    [
        ("log_return", "standard", "zero_mean"),
        ("log_return", "minmax", "zero_mean"),
        ("log_return", "robust", "zero_mean"),
        ("close", "standard", "standard"),
        ("close", "minmax", "minmax"),
        ("close", "robust", "robust"),
    ],
)
def test_target_scaler_maps_persistence_to_zero(target: str, scaler: str, kind: str) -> None:
    dataset = DATASET.model_copy(update={"target": target, "scaler": scaler})
    data = build_feature_set(BARS, Features(groups=["returns"]), dataset, FIRST, AS_OF)
    features, labels = scalers_of(data, dataset)
    assert (features.kind, labels.kind) == (scaler, kind)
    assert features.centre.shape == (3, len(data.panel.features))
    assert labels.centre.shape == (3, 1)
    if target == "log_return":
        assert (labels.inverse(np.zeros((1, 3, 1))) == 0).all()


def test_scalers_of_a_rolling_fold_ignore_earlier_sessions() -> None:
    data = built(features=Features(groups=["returns"]))
    folds = WalkForward(folds=2, training="rolling")
    split = fold_splits(len(data.panel.sessions), DATASET, folds)[-1]
    first = split.train.first - DATASET.window + 1
    assert first > 0
    changed = {name: value.copy() for name, value in arrays(data).items()}
    for name in ("values", "target"):
        changed[name][:first] += 5.0
    before, after = (
        fit_scalers(**parts, train=split.train, dataset=DATASET)
        for parts in (arrays(data), changed)
    )
    for left, right in zip(before, after, strict=True):
        assert left.to_dict() == right.to_dict()


def test_segment_sessions_are_those_of_the_window_ends() -> None:
    split = split_dataset(300, DATASET)
    spans = segment_sessions(split, FIRST, AS_OF)
    assert list(spans) == ["train", "validation", "test"]
    days = calendar.sessions(FIRST, AS_OF)
    for segment, first, last in spans.values():
        assert (first, last) == (days[segment.first], days[segment.last])
    assert spans["train"][1] == days[DATASET.window - 1]
    assert calendar.next_session(spans["test"][2]) == AS_OF
    assert len(spans["validation"][0]) == 30
    assert len(spans["test"][0]) == 20


@property_test
@given(datasets, st.integers(0, 50))
def test_split_validation_keeps_the_last_third_apart(dataset, first) -> None:
    validation = Segment(first, first + dataset.validation_sessions - 1)
    purge = purge_of(dataset)
    third = dataset.validation_sessions // 3
    if third == 0 or dataset.validation_sessions - third <= purge:
        with pytest.raises(StockAssetsError, match=r"dataset\.validation_sessions"):
            split_validation(validation, dataset)
        return
    selection, calibration = split_validation(validation, dataset)
    assert (selection.first, calibration.last) == (validation.first, validation.last)
    assert len(calibration) == third
    assert calibration.first - selection.last - 1 == purge
    assert not labels_of(selection, dataset) & labels_of(calibration, dataset)
