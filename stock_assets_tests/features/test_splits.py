"""The division of a dataset: its segments, and what training sessions alone decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.config import Features, WalkForward
from stock_assets.features.dataset import build_feature_set
from stock_assets.features.splits import (
    fit_reference,
    fit_scalers,
    fold_splits,
    segment_sessions,
    split_dataset,
)
from stock_assets.market import calendar
from stock_assets_tests.features.examples import FIRST
from stock_assets_tests.features.test_dataset import (
    AS_OF,
    BARS,
    DATASET,
    arrays,
    built,
    scalers_of,
)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_scalers_know_nothing_after_the_training_labels(seed: int) -> None:
    made = built(features=Features(groups=["returns"]))
    split = split_dataset(len(made.panel.sessions), DATASET)
    known = split.train.last + 1
    random = np.random.default_rng(seed)
    changed = {name: value.copy() for name, value in arrays(made).items()}
    for name in ("values", "target"):
        changed[name][known:] = random.normal(size=changed[name][known:].shape)
    changed["valid"][known:] = random.random(changed["valid"][known:].shape) > 0.5
    before, after = scalers_of(made), fit_scalers(**changed, train=split.train, dataset=DATASET)
    for left, right in zip(before, after, strict=True):
        assert left.to_dict() == right.to_dict()


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_reference_of_drift_knows_nothing_after_the_training_sessions(seed: int) -> None:
    made = built(features=Features(groups=["returns"]))
    split, random = split_dataset(len(made.panel.sessions), DATASET), np.random.default_rng(seed)
    known, scaler = split.train.last + 1, scalers_of(made)[0]
    values, valid = made.panel.values.copy(), made.panel.valid.copy()
    before = fit_reference(values, valid, scaler, split.train, DATASET.window, 20)
    assert before.rows == valid[:known].sum()
    values[known:] = random.normal(size=values[known:].shape)
    valid[known:] = random.random(valid[known:].shape) > 0.5
    after = fit_reference(values, valid, scaler, split.train, DATASET.window, 20)
    assert after.to_dict() == before.to_dict()


def test_the_reference_is_the_same_in_blocks_of_features(monkeypatch: pytest.MonkeyPatch) -> None:
    made = built(features=Features(groups=["returns"]))
    panel, split = made.panel, split_dataset(len(made.panel.sessions), DATASET)
    asked = panel.values, panel.valid, scalers_of(made)[0], split.train, DATASET.window, 20
    whole = fit_reference(*asked)
    monkeypatch.setattr("stock_assets.features.scaling.BLOCK_NUMBERS", 1)
    parts = fit_reference(*asked)
    assert parts.to_dict() == whole.to_dict()


def test_scalers_know_the_training_sessions_to_the_last() -> None:
    made = built(features=Features(groups=["returns"]))
    split = split_dataset(len(made.panel.sessions), DATASET)
    made.panel.values[split.train.last, 0, 0] += 1
    changed = scalers_of(made)[0].to_dict()
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
def test_a_scaled_return_of_nothing_is_persistence(target: str, scaler: str, kind: str) -> None:
    dataset = DATASET.model_copy(update={"target": target, "scaler": scaler})
    made = build_feature_set(BARS, Features(groups=["returns"]), dataset, FIRST, AS_OF)
    features, labels = scalers_of(made, dataset)
    assert (features.kind, labels.kind) == (scaler, kind)
    assert features.centre.shape == (3, len(made.panel.features))
    assert labels.centre.shape == (3, 1)
    if target == "log_return":
        assert (labels.inverse(np.zeros((1, 3, 1))) == 0).all()


def test_a_rolling_fold_is_scaled_by_its_own_training_sessions_alone() -> None:
    made = built(features=Features(groups=["returns"]))
    folds = WalkForward(folds=2, training="rolling")
    split = fold_splits(len(made.panel.sessions), DATASET, folds)[-1]
    first = split.train.first - DATASET.window + 1
    assert first > 0
    changed = {name: value.copy() for name, value in arrays(made).items()}
    for name in ("values", "target"):
        changed[name][:first] += 5.0
    before, after = (
        fit_scalers(**parts, train=split.train, dataset=DATASET)
        for parts in (arrays(made), changed)
    )
    for left, right in zip(before, after, strict=True):
        assert left.to_dict() == right.to_dict()


def test_segments_are_named_by_the_sessions_their_windows_end_at() -> None:
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
