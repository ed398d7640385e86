"""Training the candidate: from the scaled arrays of a dataset to a network and its interval."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from stock_assets.config import Training
from stock_assets.evaluation.intervals import conformal_width
from stock_assets.features.windows import Stretch, usable
from stock_assets.modelling.networks import Network, build_network
from stock_assets.modelling.training import Fit, TrainingData, fit, forecast_scaled
from stock_assets.modelling.tuning import Hyperparameters


@dataclass(frozen=True)
class Candidate:
    """A trained network, how training went, and the half width of its interval (scaled units)."""

    network: Network
    fit: Fit
    interval_width: float


def load_training_data(
    path: Path, train: Stretch, validation: Stretch, window: int
) -> TrainingData:
    """Map the scaled arrays of a dataset into memory; the test stretch is left out.

    Parameters
    ----------
    path : Path
        Tensor file with ``values`` (T, N, F), ``valid`` (T, N) and ``target`` (T, N).
    train, validation : Stretch
        Where the windows of each end.
    window : int
        Sessions a network looks back over.
    """
    tensors: dict[str, Tensor] = load_file(path)
    return TrainingData(
        values=tensors["values"],
        valid=tensors["valid"],
        target=tensors["target"],
        window=window,
        train=train.positions(),
        validation=validation.positions(),
    )


def train_candidate(
    data: TrainingData, best: Hyperparameters, training: Training, coverage: float
) -> Candidate:
    """Train with the tuned hyperparameters and calibrate the interval on validation residuals."""
    network = build_network(best.network_spec(data), training.seed)
    history = fit(network, data, best.fit_settings(training))
    return Candidate(network, history, _interval_width(network, data, coverage))


def _interval_width(network: Network, data: TrainingData, coverage: float) -> float:
    ends = data.validation
    forecast = forecast_scaled(network, data.values, data.valid, ends, data.window)[:, 0, :]
    actual = data.target.numpy()[ends]
    counted = usable(data.valid.numpy(), data.target.numpy(), ends, data.window)
    return conformal_width((actual - forecast)[counted].astype(np.float64), coverage)
