"""Training a promoted candidate again, on every window that its dataset has all labels of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from stock_assets.config import Training
from stock_assets.models.bundle import Bundle
from stock_assets.models.checkpoint import Checkpoints
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import build_network, pick_device
from stock_assets.models.training import FitSettings, refit


@dataclass(frozen=True)
class Refit:
    """The refitted bundle, and the training loss of each epoch."""

    bundle: Bundle
    losses: tuple[float, ...]


def refit_bundle(
    candidate: Bundle,
    data: TrainingData,
    training: Training,
    batch_size: int,
    rates: Sequence[float],
    checkpoints: Checkpoints | None = None,
) -> Refit:
    """Train the network of a candidate again from its first weights.

    The recipe stays: scalers and interval widths are the candidate's. A width is calibrated on
    residuals of sessions that a network has not learnt from, and a refit leaves none.

    Parameters
    ----------
    candidate : Bundle
    data : TrainingData
        Scaled as the candidate's was; its `train` is everything to learn from.
    training : Training
        As the candidate was trained, with its seed.
    batch_size : int
        As the candidate's.
    rates : sequence of float
        The candidate's learning rate in each epoch up to its best.
    checkpoints : Checkpoints, optional
        Where a file is written after each epoch, which a refit that was killed is gone on from.

    Returns
    -------
    Refit
        Its network is on the CPU, wherever it was trained.

    Raises
    ------
    StockAssetsError
        A training loss was not finite.
    """
    settings = FitSettings(**training.model_dump(), learning_rate=rates[0], batch_size=batch_size)
    network = build_network(candidate.recipe.network, training.seed)
    decisive = {
        "candidate": candidate.digest(),
        "settings": asdict(settings),
        "rates": list(rates),
        "device": pick_device(training.device).type,
    }
    checkpoint = checkpoints.of("refit", **decisive) if checkpoints else None
    losses = refit(network, data, settings, rates, checkpoint)
    return Refit(Bundle(candidate.recipe, network.cpu().eval()), tuple(losses))
