"""Candidate: deterministic training, and intervals with their nominal coverage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stock_assets.config import Target, Training
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.windows import usable_windows
from stock_assets.models.candidate import Candidate, train_candidate
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import TrainingData
from stock_assets.models.training import forecast_scaled, weights_digest
from stock_assets.models.tuning import Hyperparameters
from stock_assets_tests.models.examples import WINDOW, learnable_data, with_windows

BEST = Hyperparameters("lstm", 8, 1, 0.1, 0.01, 16)
TRAINING = Training(epochs=3, patience=3, seed=7)


def train(data: TrainingData | None = None, coverage: float = 0.9) -> Candidate:
    return train_candidate(data or learnable_data(), BEST, TRAINING, "log_return", coverage)


def three_ahead() -> TrainingData:
    """Return data with three labels per window."""
    data = learnable_data()
    return replace(data, horizon=3, validation=data.validation[:-2])


def residuals(candidate: Candidate, data: TrainingData) -> np.ndarray:
    ends = data.validation
    forecast = forecast_scaled(candidate.network, data.windows, ends)[:, 0]
    labels = data.target.numpy()[ends]
    counted = usable_windows(data.windows.valid.numpy(), ends, WINDOW) & np.isfinite(labels)
    return np.abs(labels - forecast)[counted]


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_interval_covers_its_share_of_the_validation_residuals(coverage: float) -> None:
    data = learnable_data()
    candidate = train(data, coverage)
    (width,) = candidate.interval_widths
    share = (residuals(candidate, data) <= width + 1e-9).mean()
    assert coverage <= share <= coverage + 0.05


@pytest.mark.parametrize("target", ["log_return", "close"])
def test_interval_of_each_horizon_covers_its_share(target: Target) -> None:
    data = three_ahead()
    candidate = train_candidate(data, BEST, TRAINING, target, 0.8)
    ends, labels = data.validation, data.target.numpy()
    steps = forecast_scaled(candidate.network, data.windows, ends)
    enough = usable_windows(data.windows.valid.numpy(), ends, WINDOW)
    assert len(candidate.interval_widths) == 3
    for ahead, width in enumerate(candidate.interval_widths, start=1):
        first = 0 if target == "log_return" else ahead - 1
        errors = sum(labels[ends + step] - steps[:, step] for step in range(first, ahead))
        known = enough & np.isfinite(errors)
        assert 0.75 < (np.abs(errors[known]) <= width).mean() < 0.9, ahead


def test_intervals_of_returns_widen_with_the_horizon() -> None:
    near, further, far = train(three_ahead()).interval_widths
    assert near < further < far


def test_intervals_widen_with_coverage() -> None:
    assert train(coverage=0.5).interval_widths < train(coverage=0.95).interval_widths


def test_training_is_deterministic() -> None:
    first, second = train(), train()
    assert weights_digest(first.network) == weights_digest(second.network)
    assert first.interval_widths == second.interval_widths
    assert first.fit == second.fit


def test_checkpoint_is_used_for_equal_data_and_settings_only(tmp_path: Path) -> None:
    path = tmp_path / "candidate.safetensors"

    def written(digest: str, **changes: int) -> int:
        before = path.stat().st_mtime_ns if path.exists() else 0
        training = TRAINING.model_copy(update=changes)
        candidate = train_candidate(
            learnable_data(), BEST, training, "log_return", 0.9, CheckpointFolder(tmp_path, digest)
        )
        assert next(candidate.network.parameters()).device.type == "cpu"
        return path.stat().st_mtime_ns - before

    assert written("data") > 0
    assert written("data") == 0, "all epochs are done"
    assert written("other data") > 0
    assert written("other data", seed=8) > 0


def test_candidate_has_the_tuned_hyperparameters() -> None:
    candidate = train()
    spec = candidate.network.spec
    assert (spec.architecture, spec.hidden_size, spec.layers) == ("lstm", 8, 1)
    assert (spec.tickers, spec.features, spec.window) == (3, 2, WINDOW)
    assert candidate.fit.history[0].learning_rate == BEST.learning_rate
    assert len(candidate.fit.history) == TRAINING.epochs


def test_candidate_ignores_sessions_after_the_validation_segment() -> None:
    data = learnable_data()
    before = train(data)
    stop = int(data.validation[-1])
    shorter = replace(
        with_windows(data, values=data.windows.values.clone()),
        target=data.target.clone(),
        validation=data.validation[:-5],
    )
    clean = train(shorter)
    shorter.windows.values[stop - 4 :] = 1e3
    shorter.target[stop - 4 :] = -1e3
    dirty = train(shorter)
    assert weights_digest(clean.network) == weights_digest(dirty.network)
    assert clean.interval_widths == dirty.interval_widths
    assert before.interval_widths != clean.interval_widths


def test_too_few_residuals_are_an_error() -> None:
    data = learnable_data()
    few = replace(data, validation=data.validation[:2])
    with pytest.raises(StockAssetsError, match=r"dataset\.validation_sessions"):
        train(few, 0.99)
