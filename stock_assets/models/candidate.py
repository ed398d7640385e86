"""Training the candidate: from the scaled arrays of a dataset to a network and its intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from stock_assets.config import Target, Training
from stock_assets.evaluation.intervals import conformal_width
from stock_assets.features.labels import cumulate_steps
from stock_assets.features.windows import usable_windows
from stock_assets.models.checkpoint import Checkpoints
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import Network, build_network, pick_device
from stock_assets.models.training import Fit, fit, forecast_scaled
from stock_assets.models.tuning import Hyperparameters


@dataclass(frozen=True)
class Candidate:
    """A trained network, how training went, and half the width of its interval per horizon.

    Attributes
    ----------
    network : Network
        On the CPU, in the weights of its best epoch.
    fit : Fit
    interval_widths : tuple of float
        For 1 to H sessions ahead, in the scaled units of the target.
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
    checkpoints: Checkpoints | None = None,
    name: str = "candidate",
) -> Candidate:
    """Train with the tuned hyperparameters and calibrate the intervals on validation residuals.

    Parameters
    ----------
    data : TrainingData
    best : Hyperparameters
    training : Training
    target : Target
        What the labels are, which decides how steps lead to a horizon.
    coverage : float
        Share of outcomes that each interval is meant to hold.
    checkpoints : Checkpoints, optional
        Where a file is written after each epoch. If it is there from a killed training with equal
        data, hyperparameters, settings and version of PyTorch, that training is gone on with.
    name : str
        Of the file.

    Returns
    -------
    Candidate
        Its network is on the CPU, wherever it was trained.
    """
    network = build_network(best.network_spec(data), training.seed)
    settings = best.fit_settings(training)
    decisive = {
        "settings": asdict(settings),
        "network": network.spec.to_dict(),
        "device": pick_device(training.device).type,
    }
    checkpoint = checkpoints.of(name, **decisive) if checkpoints else None
    history = fit(network, data, settings, checkpoint=checkpoint)
    return Candidate(network.cpu(), history, _interval_widths(network, data, target, coverage))


def _interval_widths(
    network: Network, data: TrainingData, target: Target, coverage: float
) -> tuple[float, ...]:
    """Calibrate each horizon on the residuals of whole forecasts: those of its steps added up."""
    ends, steps, windows = data.validation, np.arange(network.spec.horizon), data.windows
    forecast = forecast_scaled(network, windows, ends)
    actual = data.target.numpy()[ends[:, np.newaxis] + steps]
    residuals = cumulate_steps((actual - forecast).astype(np.float64), target)
    enough = usable_windows(windows.valid.numpy(), ends, windows.length)
    counted = enough[:, np.newaxis] & np.isfinite(residuals)
    return tuple(conformal_width(residuals[:, step][counted[:, step]], coverage) for step in steps)
