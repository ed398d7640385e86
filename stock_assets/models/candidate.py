"""Trains the candidate's network with the tuned hyperparameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from stock_assets.config import Training
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import Network, build_network, pick_device
from stock_assets.models.training import Fit, fit
from stock_assets.models.tuning import Hyperparameters


@dataclass(frozen=True)
class Candidate:
    """A trained network and its training history.

    Attributes
    ----------
    network : Network
        On the CPU, with the weights of its best epoch.
    fit : Fit
    """

    network: Network
    fit: Fit


def train_candidate(
    data: TrainingData,
    best: Hyperparameters,
    training: Training,
    checkpoints: CheckpointFolder | None = None,
    name: str = "candidate",
) -> Candidate:
    """Train a network with the tuned hyperparameters.

    Parameters
    ----------
    data : TrainingData
    best : Hyperparameters
    training : Training
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
    return Candidate(network.cpu(), history)
