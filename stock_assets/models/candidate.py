"""Trains the candidate and calibrates its prediction intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from stock_assets.config import Target, Training
from stock_assets.evaluation.intervals import conformal_half_width
from stock_assets.features.labels import cumulate_steps
from stock_assets.features.windows import usable_windows
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import Network, build_network, pick_device
from stock_assets.models.training import Fit, fit, forecast_scaled
from stock_assets.models.tuning import Hyperparameters


@dataclass(frozen=True)
class Candidate:
    """A trained network, its training history and its interval widths.

    Attributes
    ----------
    network : Network
        On the CPU, with the weights of its best epoch.
    fit : Fit
    interval_widths : tuple of float
        Half the interval width for 1 to H sessions ahead, in scaled target units.
    """

    network: Network
    fit: Fit
    interval_widths: tuple[float, ...]


def train_candidate(
    data: TrainingData,
    best: Hyperparameters,
    training: Training,
    target: Target,
    coverage: float,
    checkpoints: CheckpointFolder | None = None,
    name: str = "candidate",
) -> Candidate:
    """Train with the tuned hyperparameters and calibrate the intervals on validation residuals.

    Parameters
    ----------
    data : TrainingData
    best : Hyperparameters
    training : Training
    target : Target
        Of the labels.
    coverage : float
        Nominal coverage of the intervals.
    checkpoints : CheckpointFolder, optional
        Training writes a checkpoint after each epoch and resumes from one with equal data,
        hyperparameters, settings, code and version of PyTorch.
    name : str
        Of the checkpoint.
    """
    network = build_network(best.network_spec(data), training.seed)
    settings = best.fit_settings(training)
    inputs = {
        "settings": settings.model_dump(),
        "network": asdict(network.spec),
        "device": pick_device(training.device).type,
    }
    checkpoint = checkpoints.checkpoint(name, **inputs) if checkpoints else None
    history = fit(network, data, settings, checkpoint=checkpoint)
    return Candidate(network.cpu(), history, _interval_widths(network, data, target, coverage))


def _interval_widths(
    network: Network, data: TrainingData, target: Target, coverage: float
) -> tuple[float, ...]:
    """Calibrate each horizon on the validation residuals of its cumulated steps."""
    ends, steps, windows = data.validation, np.arange(network.spec.horizon), data.windows
    forecast = forecast_scaled(network, windows, ends)
    actual = data.target.numpy()[ends[:, np.newaxis] + steps]
    residuals = cumulate_steps((actual - forecast).astype(np.float64), target)
    usable = usable_windows(windows.valid.numpy(), ends, windows.length)
    counted = usable[:, np.newaxis] & np.isfinite(residuals)
    return tuple(
        conformal_half_width(residuals[:, step][counted[:, step]], coverage) for step in steps
    )
