"""Candidate: deterministic training with the tuned hyperparameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stock_assets.config import Training
from stock_assets.models.candidate import Candidate, train_candidate
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import TrainingData
from stock_assets.models.training import weights_digest
from stock_assets.models.tuning import Hyperparameters
from stock_assets_tests.models.examples import WINDOW, learnable_data, with_windows

BEST = Hyperparameters("lstm", 8, 1, 0.1, 0.01, 16)
TRAINING = Training(epochs=3, patience=3, seed=7)


def train(data: TrainingData | None = None) -> Candidate:
    return train_candidate(data or learnable_data(), BEST, TRAINING)


def test_training_is_deterministic() -> None:
    first, second = train(), train()
    assert weights_digest(first.network) == weights_digest(second.network)
    assert first.fit == second.fit


def test_checkpoint_is_used_for_equal_data_and_settings_only(tmp_path: Path) -> None:
    path = tmp_path / "candidate.safetensors"

    def written(digest: str, **changes: int) -> int:
        before = path.stat().st_mtime_ns if path.exists() else 0
        training = TRAINING.model_copy(update=changes)
        candidate = train_candidate(
            learnable_data(), BEST, training, CheckpointFolder(tmp_path, digest)
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
    assert clean.fit == dirty.fit
    assert before.fit != clean.fit
