"""Refits a promoted candidate on all labelled windows of its dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stock_assets.config import Training
from stock_assets.models.bundle import Bundle
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import TrainingData
from stock_assets.models.members import member_name, member_training
from stock_assets.models.networks import build_network, members_of, pick_device
from stock_assets.models.training import FitSettings, refit


@dataclass(frozen=True)
class Refit:
    """A refitted bundle, and the training loss of each epoch of each member."""

    bundle: Bundle
    losses: tuple[tuple[float, ...], ...]


def refit_bundle(
    candidate: Bundle,
    data: TrainingData,
    training: Training,
    batch_size: int,
    rates: Sequence[Sequence[float]],
    checkpoints: CheckpointFolder | None = None,
) -> Refit:
    """Train the network of a candidate from its initial weights, without a validation segment.

    The recipe is unchanged.

    Parameters
    ----------
    candidate : Bundle
    data : TrainingData
        Scaled like the candidate's; `train` has all labelled windows.
    training : Training
        The candidate's, with its seed.
    batch_size : int
        The candidate's.
    rates : sequence of sequence of float
        The candidate's learning rates in each epoch up to the best, one sequence per member.
    checkpoints : CheckpointFolder, optional
        See :func:`stock_assets.models.candidate.train_candidate`.

    Raises
    ------
    StockAssetsError
        A training loss was not finite.
    """
    network = build_network(candidate.recipe.network, training.seed)
    losses = []
    for number, (member, own) in enumerate(zip(members_of(network), rates, strict=True)):
        settings = FitSettings(
            **member_training(training, number).model_dump(),
            learning_rate=own[0],
            batch_size=batch_size,
        )
        inputs = {
            "candidate": candidate.digest(),
            "settings": settings.deciding_weights(),
            "rates": list(own),
            "device": pick_device(training.device).type,
        }
        name = member_name("refit", number)
        checkpoint = (
            checkpoints.checkpoint(name, member.spec.architecture, **inputs)
            if checkpoints
            else None
        )
        losses.append(tuple(refit(member, data, settings, own, checkpoint)))
    return Refit(Bundle(candidate.recipe, network.cpu().eval()), tuple(losses))
