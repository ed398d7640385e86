"""Training settings and names of the networks of an ensemble, numbered from 0."""

from __future__ import annotations

from stock_assets.config import Training


def member_training(training: Training, number: int) -> Training:
    """Return the training settings of a network: its number is added to the seed."""
    return training.model_copy(update={"seed": training.seed + number})


def member_name(name: str, number: int) -> str:
    """Return the name of a metric or checkpoint; that of the first network is unchanged."""
    return name if number == 0 else f"{name}_member_{number + 1}"
