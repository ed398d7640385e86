"""Training the candidate: from the scaled arrays of a dataset to a network and its interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from stock_assets.config import Training
from stock_assets.evaluation.intervals import conformal_width
from stock_assets.features.windows import usable
from stock_assets.modelling.checkpoint import Checkpoint
from stock_assets.modelling.networks import Network, build_network, pick_device
from stock_assets.modelling.training import Fit, TrainingData, fit, forecast_scaled
from stock_assets.modelling.tuning import Hyperparameters
from stock_assets.provenance import plain_digest


@dataclass(frozen=True)
class Candidate:
    """A trained network, how training went, and the half width of its interval (scaled units)."""

    network: Network
    fit: Fit
    interval_width: float


def train_candidate(
    data: TrainingData,
    best: Hyperparameters,
    training: Training,
    coverage: float,
    checkpoint: Path | None = None,
    data_digest: str = "",
) -> Candidate:
    """Train with the tuned hyperparameters and calibrate the interval on validation residuals.

    Parameters
    ----------
    data : TrainingData
    best : Hyperparameters
    training : Training
    coverage : float
        Share of outcomes that the interval is meant to hold.
    checkpoint : Path, optional
        A file that is written after each epoch. If it is there from a killed training with equal
        data, hyperparameters, settings and version of PyTorch, that training is gone on with.
    data_digest : str
        Tells the data apart from other data that the file may be of.

    Returns
    -------
    Candidate
        Its network is on the CPU, wherever it was trained.
    """
    network = build_network(best.network_spec(data), training.seed)
    settings = best.fit_settings(training)
    decisive = {
        "data": data_digest,
        "settings": asdict(settings),
        "network": network.spec.to_dict(),
        "torch": torch.__version__,
        "device": pick_device(training.device).type,
    }
    purpose = plain_digest(decisive)
    history = fit(
        network, data, settings, checkpoint=Checkpoint(checkpoint, purpose) if checkpoint else None
    )
    return Candidate(network.cpu(), history, _interval_width(network, data, coverage))


def _interval_width(network: Network, data: TrainingData, coverage: float) -> float:
    ends = data.validation
    forecast = forecast_scaled(network, data.values, data.valid, ends, data.window)[:, 0, :]
    actual = data.target.numpy()[ends]
    counted = usable(data.valid.numpy(), data.target.numpy(), ends, data.window)
    return conformal_width((actual - forecast)[counted].astype(np.float64), coverage)
