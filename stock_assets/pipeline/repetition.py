"""Train a registered version again, as it was trained."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.core.errors import StockAssetsError
from stock_assets.models.bundle import Bundle
from stock_assets.models.intervals import FixedIntervals
from stock_assets.models.networks import Network
from stock_assets.pipeline.training import Later, refit_on_dataset, train_on_dataset
from stock_assets.pipeline.training_logs import logged_training, refit_known_at
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore


def train_again(
    engine: Engine,
    arrays: ArrayStore,
    registry: Registry,
    version: int,
    params: Params,
    checkpoint_folder: Path,
) -> Bundle:
    """Repeat the training of a candidate or of a refit from its logged settings.

    Nothing is registered. `params` supply what is neither logged nor in the bundle.

    Raises
    ------
    StockAssetsError
        There is no such version, an earlier version of this package trained it, its training was
        not logged, or its dataset is incomplete.
    """
    model = registry.version(version)
    candidate = registry.evaluation_version(model)
    logged = logged_training(registry.client(), candidate)
    stored = registry.load(candidate.version)
    if model.refit_of is not None:
        later = None
        if model.as_of > candidate.as_of:
            later = Later(model.as_of, refit_known_at(registry.client(), model))
        refit, _, _ = refit_on_dataset(
            engine, arrays, candidate, stored, logged, checkpoint_folder, later
        )
        return refit.bundle
    recipe = stored.recipe
    if isinstance(recipe.intervals, FixedIntervals):
        raise StockAssetsError(
            f"{candidate} was trained by an earlier version of stock-assets",
            "Install that version to repeat its training",
        )
    used = params.model_copy(
        update={
            "training": logged.training,
            "forecast": recipe.intervals.parameters(),
            "monitoring": params.monitoring.model_copy(
                update={"window_sessions": recipe.reference.sessions}
            ),
        }
    )
    return train_on_dataset(engine, arrays, candidate.dataset, used, checkpoint_folder).bundle


def weights_difference(then: Network, now: Network) -> float | None:
    """Return the largest distance of two networks' tensors, relative to the norm of the first.

    None if their tensors differ in name or shape.
    """
    first, second = then.state_dict(), now.state_dict()
    shapes = ({name: weight.shape for name, weight in one.items()} for one in (first, second))
    if next(shapes) != next(shapes):
        return None
    distances = [
        float((weight - second[name]).norm() / weight.norm().clamp(min=1e-12))
        for name, weight in first.items()
    ]
    return max(distances, default=0.0)
