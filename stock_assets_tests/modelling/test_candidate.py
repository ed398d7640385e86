"""A candidate: trained on what it is given, repeatable, with an interval that holds its share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stock_assets.config import Training
from stock_assets.errors import StockAssetsError
from stock_assets.features.windows import Stretch, usable
from stock_assets.modelling.candidate import Candidate, train_candidate
from stock_assets.modelling.training import (
    TrainingData,
    forecast_scaled,
    load_training_data,
    weights_digest,
)
from stock_assets.modelling.tuning import Hyperparameters
from stock_assets.storage.arrays import ArrayStore
from stock_assets_tests.modelling.examples import WINDOW, learnable_data

BEST = Hyperparameters("lstm", 8, 1, 0.1, 0.01, 16)
TRAINING = Training(epochs=3, patience=3, seed=7)


def train(data: TrainingData | None = None, coverage: float = 0.9) -> Candidate:
    return train_candidate(data or learnable_data(), BEST, TRAINING, coverage)


def residuals(candidate: Candidate, data: TrainingData) -> np.ndarray:
    ends = data.validation
    forecast = forecast_scaled(candidate.network, data.values, data.valid, ends, WINDOW)[:, 0]
    counted = usable(data.valid.numpy(), data.target.numpy(), ends, WINDOW)
    return np.abs(data.target.numpy()[ends] - forecast)[counted]


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_the_interval_holds_its_share_of_the_validation_residuals(coverage: float) -> None:
    data = learnable_data()
    candidate = train(data, coverage)
    share = (residuals(candidate, data) <= candidate.interval_width + 1e-9).mean()
    assert coverage <= share <= coverage + 0.05


def test_a_wider_coverage_is_a_wider_interval() -> None:
    assert train(coverage=0.5).interval_width < train(coverage=0.95).interval_width


def test_training_again_gives_the_same_candidate() -> None:
    first, second = train(), train()
    assert weights_digest(first.network) == weights_digest(second.network)
    assert first.interval_width == second.interval_width
    assert first.fit == second.fit


def test_a_checkpoint_is_gone_on_with_for_the_same_data_and_settings_alone(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"

    def made(digest: str, **changes: int) -> int:
        before = path.stat().st_mtime_ns if path.exists() else 0
        training = TRAINING.model_copy(update=changes)
        candidate = train_candidate(learnable_data(), BEST, training, 0.9, path, digest)
        assert next(candidate.network.parameters()).device.type == "cpu"
        return path.stat().st_mtime_ns - before

    assert made("data") > 0
    assert made("data") == 0, "all epochs were there"
    assert made("other data") > 0
    assert made("other data", seed=8) > 0


def test_the_tuned_hyperparameters_are_used() -> None:
    candidate = train()
    spec = candidate.network.spec
    assert (spec.architecture, spec.hidden_size, spec.layers) == ("lstm", 8, 1)
    assert (spec.tickers, spec.features, spec.window) == (3, 2, WINDOW)
    assert candidate.fit.history[0].learning_rate == BEST.learning_rate
    assert len(candidate.fit.history) == TRAINING.epochs


def test_nothing_after_the_validation_stretch_is_read() -> None:
    data = learnable_data()
    before = train(data)
    stop = int(data.validation[-1])
    shorter = TrainingData(
        data.values.clone(),
        data.valid,
        data.target.clone(),
        WINDOW,
        data.train,
        data.validation[:-5],
    )
    clean = train(shorter)
    shorter.values[stop - 4 :] = 1e3
    shorter.target[stop - 4 :] = -1e3
    dirty = train(shorter)
    assert weights_digest(clean.network) == weights_digest(dirty.network)
    assert clean.interval_width == dirty.interval_width
    assert before.interval_width != 0


def test_too_few_residuals_for_the_coverage_are_told() -> None:
    data = learnable_data()
    few = TrainingData(
        data.values, data.valid, data.target, WINDOW, data.train, data.validation[:2]
    )
    with pytest.raises(StockAssetsError, match=r"dataset\.validation_sessions"):
        train(few, 0.99)


def test_a_stored_dataset_is_read_as_it_was_written_without_its_test_stretch(
    tmp_path: Path,
) -> None:
    data = learnable_data()
    store = ArrayStore(str(tmp_path))
    stored = store.write_tensors(
        {name: getattr(data, name).numpy() for name in ("values", "valid", "target")}
    )
    back = load_training_data(
        store.local_path(stored.location), Stretch(5, 79), Stretch(90, 100), WINDOW
    )
    for name in ("values", "valid", "target"):
        ours, theirs = getattr(back, name), getattr(data, name)
        assert ours.dtype == theirs.dtype
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()
    assert back.train.tolist() == list(range(5, 80))
    assert back.validation.tolist() == list(range(90, 101))
    assert torch.equal(back.valid, data.valid)
