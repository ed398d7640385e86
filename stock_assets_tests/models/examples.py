"""Small panels with a learnable signal, for tests of training and tuning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from stock_assets.features.windows import Windows
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import NetworkSpec
from stock_assets.models.training import FitSettings

WINDOW = 6
ARCHITECTURES = ("lstm", "lstm_attention", "lstm_cross_attention")
SETTINGS = FitSettings(
    epochs=4,
    patience=4,
    learning_rate=0.01,
    batch_size=16,
    loss="mse",
    weight_decay=1e-4,
    gradient_clip=1.0,
    plateau_epochs=3,
    plateau_factor=0.5,
    threads=1,
    device="cpu",
    seed=7,
)


def fit_settings(**changes: object) -> FitSettings:
    """Return `SETTINGS` with changes."""
    return SETTINGS.model_copy(update=changes)


def spec(architecture: str = "lstm", **changes: object) -> NetworkSpec:
    """Return the specification of a network for three tickers with two features each."""
    fields = {
        "architecture": architecture,
        "tickers": 3,
        "features": 2,
        "window": WINDOW,
        "hidden_size": 8,
        "layers": 1,
        "dropout": 0.1,
    }
    return NetworkSpec(**fields | changes)


def unscaled(values: np.ndarray, valid: np.ndarray) -> Windows:
    """Return windows of features that are already scaled."""
    identity = torch.zeros(values.shape[1:]), torch.ones(values.shape[1:])
    return Windows(torch.from_numpy(values), torch.from_numpy(valid), *identity, WINDOW)


def with_windows(data: TrainingData, **changes: Any) -> TrainingData:
    """Replace the `values` or `valid` of the windows."""
    return replace(data, windows=replace(data.windows, **changes))


def learnable_data(seed: int = 0, missing: float = 0.05) -> TrainingData:
    """Return noise whose newest first feature predicts the label, with missing pairs.

    120 sessions; the last has no label.
    """
    random = np.random.default_rng(seed)
    values = random.normal(size=(120, 3, 2)).astype(np.float32)
    target = 0.8 * values[:, :, 0] + 0.1 * random.normal(size=(120, 3)).astype(np.float32)
    valid = random.random((120, 3)) >= missing
    values[~valid] = 0.0
    target[~valid] = np.nan
    target[-1] = np.nan
    return TrainingData(
        windows=unscaled(values, valid),
        target=torch.from_numpy(target),
        horizon=1,
        train=np.arange(WINDOW - 1, 80),
        validation=np.arange(90, 119),
        calibration=np.arange(0),
    )
