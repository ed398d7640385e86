"""What the members of an ensemble have instead of a single network, counted from 0."""

from __future__ import annotations

from stock_assets.config import Training


def member_training(training: Training, number: int) -> Training:
    """Return the training settings of a member: they differ in the seed."""
    return training.model_copy(update={"seed": training.seed + number})


def member_name(name: str, number: int) -> str:
    """Return the name of a metric or a checkpoint of a member; the first has that of a network."""
    return name if number == 0 else f"{name}_member_{number + 1}"
