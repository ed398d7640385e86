"""Trains the candidate's network with the tuned hyperparameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from stock_assets.config import Training
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import TrainingData
from stock_assets.models.members import member_name, member_training
from stock_assets.models.networks import Network, build_network, members_of, pick_device
from stock_assets.models.training import Fit, fit
from stock_assets.models.tuning import Hyperparameters


@dataclass(frozen=True)
class Candidate:
    """A trained network or ensemble, and its training histories.

    Attributes
    ----------
    network : Network
        On the CPU, each member with the weights of its best epoch.
    fits : tuple of Fit
        One per member of an ensemble, else one.
    """

    network: Network
    fits: tuple[Fit, ...]

    @property
    def fit(self) -> Fit:
        """The training of the first member, or of the only network."""
        return self.fits[0]


def train_candidate(
    data: TrainingData,
    best: Hyperparameters,
    training: Training,
    checkpoints: CheckpointFolder | None = None,
    name: str = "candidate",
) -> Candidate:
    """Train a network with the tuned hyperparameters.

    The members of an ensemble have the same data and settings, and the seeds ``training.seed``,
    ``training.seed + 1`` and so on.

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
    network = build_network(best.network_spec(data, training.ensemble), training.seed)
    fits = []
    for number, member in enumerate(members_of(network)):
        settings = best.fit_settings(member_training(training, number))
        inputs = {
            "settings": settings.deciding_weights(),
            "network": asdict(member.spec),
            "device": pick_device(training.device).type,
        }
        own_name = member_name(name, number)
        checkpoint = (
            checkpoints.checkpoint(own_name, best.architecture, **inputs) if checkpoints else None
        )
        fits.append(fit(member, data, settings, checkpoint=checkpoint))
    return Candidate(network.cpu(), tuple(fits))
