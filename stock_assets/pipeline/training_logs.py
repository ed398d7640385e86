"""Read the training of a candidate from its MLflow run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from stock_assets.config import Training
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import training_code
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.models.members import member_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from stock_assets.models.bundle import Bundle

TRAINING_PREFIX = "training."
"""Prefix of the MLflow parameters that are training settings."""
_REFIT_PREFIX = "refit_"
_REFIT_KNOWN_AT = "refit_known_at"


@dataclass(frozen=True)
class LoggedTraining:
    """The logged training of a candidate, which a refit repeats.

    Attributes
    ----------
    training : Training
        Settings that were not tuned, with the seed.
    batch_size : int
        Windows per step.
    learning_rates : tuple of tuple of float
        Learning rate of each epoch up to the best, one tuple per member of an ensemble.
    """

    training: Training
    batch_size: int
    learning_rates: tuple[tuple[float, ...], ...]


def logged_training(client: MlflowClient, candidate: ModelVersion) -> LoggedTraining:
    """Read the training of a candidate from its MLflow run.

    Raises
    ------
    StockAssetsError
        The run, of an earlier version of this package, lacks training settings.
    """
    from mlflow.exceptions import MlflowException

    try:
        logged = client.get_run(candidate.mlflow_run).data
    except MlflowException:
        raise StockAssetsError(
            f"MLflow has lost the run of {candidate}, {candidate.mlflow_run_id}",
            "Train a new candidate, or set promotion.refit to false",
        ) from None
    settings = {
        name.removeprefix(TRAINING_PREFIX): value
        for name, value in logged.params.items()
        if name.startswith(TRAINING_PREFIX)
    }
    if settings.keys() != Training.model_fields.keys() or "best_epoch" not in logged.metrics:
        raise StockAssetsError(
            f"the MLflow run of {candidate} lacks training settings",
            "Train a new candidate, or set promotion.refit to false",
        )
    training = Training.model_validate(settings)
    learning_rates = []
    for number in range(training.ensemble):
        rates = _metric(client, candidate.mlflow_run, member_name("learning_rate", number))
        best = int(logged.metrics[member_name("best_epoch", number)])
        learning_rates.append(tuple(rates[epoch] for epoch in range(1, best + 1)))
    return LoggedTraining(training, int(logged.params["batch_size"]), tuple(learning_rates))


def training_environment(bundle: Bundle, *, is_refit: bool = False) -> dict[str, str]:
    """Describe the environment of a training: PyTorch, device and training code.

    Returns
    -------
    dict of str to str
        ``torch``, ``device`` and ``training_code``, as tags of the MLflow run; those of a refit
        have a prefix.
    """
    import torch

    from stock_assets.models.networks import describe_device

    facts = {
        "torch": torch.__version__,
        "device": describe_device(bundle.network),
        "training_code": training_code(bundle.recipe.code_names),
    }
    return {f"{_REFIT_PREFIX if is_refit else ''}{name}": value for name, value in facts.items()}


def later_tags(known_at: datetime) -> dict[str, str]:
    """Return the tag of a refit as of a later session: the moment whose prices it read."""
    return {_REFIT_KNOWN_AT: known_at.isoformat()}


def refit_known_at(client: MlflowClient, refit: ModelVersion) -> datetime | None:
    """Read the moment whose prices a refit as of a later session read; None if not logged."""
    text = client.get_run(refit.mlflow_run).data.tags.get(_REFIT_KNOWN_AT)
    return None if text is None else datetime.fromisoformat(text)


def logged_environment(client: MlflowClient, model: ModelVersion) -> dict[str, str]:
    """Read the tags of :func:`training_environment` that the run of a version has."""
    tags = client.get_run(model.mlflow_run).data.tags
    prefix = "" if model.refit_of is None else _REFIT_PREFIX
    names = ("torch", "device", "training_code")
    return {name: tags[f"{prefix}{name}"] for name in names if f"{prefix}{name}" in tags}


def training_history(client: MlflowClient, mlflow_run_id: str) -> list[dict[str, float]]:
    """Return ``epoch``, ``train_loss`` and ``validation_loss`` of every logged epoch.

    Of an ensemble they are those of its first member.
    """
    names = ("train_loss", "validation_loss")
    losses = {name: _metric(client, mlflow_run_id, name) for name in names}
    return [
        {"epoch": epoch} | {name: values[epoch] for name, values in losses.items()}
        for epoch in sorted(losses["train_loss"])
    ]


def _metric(client: MlflowClient, mlflow_run_id: str, name: str) -> dict[int, float]:
    """Return the values of a logged metric by step."""
    history = client.get_metric_history(mlflow_run_id, name)
    return {point.step: point.value for point in history}
