"""Part of stage 4: the refit of a promoted candidate, made and registered once."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stock_assets.defs.metadata import checkpoints, positions, training_data
from stock_assets.defs.resources import Store
from stock_assets.evaluation.champion import ModelVersion
from stock_assets.registry import Registry

if TYPE_CHECKING:
    from stock_assets.models.bundle import Bundle
    from stock_assets.models.data import TrainingData
    from stock_assets.models.refit import Refit


def registered_refit(
    store: Store,
    registry: Registry,
    mlflow_run: Any,
    candidate: ModelVersion,
) -> ModelVersion:
    """Give the refit of a candidate: the one that is registered, or else a new one."""
    from stock_assets.models.refit import refit_bundle
    from stock_assets.storage.prices import read_bars

    known = registry.refit(candidate)
    if known is not None:
        return known
    bundle, schedule = registry.load(candidate.version), registry.schedule(candidate)
    data = _whole_data(store, candidate, bundle)
    begun = checkpoints(store, candidate.dataset_run_id)
    made = refit_bundle(
        bundle, data, schedule.training, schedule.batch_size, schedule.learning_rates, begun
    )
    recipe = bundle.recipe
    bars = read_bars(store.engine, recipe.first_session, recipe.as_of, recipe.tickers)
    with tempfile.TemporaryDirectory() as folder:
        version = registry.register(
            made.bundle, Path(folder) / "bundle", bars, refit_of=candidate.version
        )
    shutil.rmtree(begun.folder, ignore_errors=True)
    _log_refit(mlflow_run, version, made)
    return version


def _whole_data(store: Store, candidate: ModelVersion, bundle: "Bundle") -> "TrainingData":
    """Map the arrays of the candidate's dataset, to learn from every window with known labels.

    These are the windows from the first of training to the last of test, which is labelled with the
    as-of session, and those that were purged between the segments.
    """
    from stock_assets.features.splits import Segment
    from stock_assets.storage.datasets import load_panel, load_segments

    record = load_panel(store.engine, candidate.dataset_run_id)
    segments = load_segments(store.engine, candidate.dataset_run_id)
    names = ("train", "validation", "test")
    train, validation, test = (positions(segments[name]) for name in names)
    scalers = bundle.recipe.feature_scaler, bundle.recipe.target_scaler
    return training_data(store, record, scalers, Segment(train.first, test.last), validation)


def _log_refit(mlflow_run: Any, version: ModelVersion, made: "Refit") -> None:
    """Say in the MLflow run what was trained again, for how long, and what came of it."""
    from stock_assets.models.training import weights_digest

    mlflow_run.set_tags(
        {
            "refit_version": version.version,
            "refit_of": version.refit_of,
            "refit_weights": weights_digest(made.bundle.network),
        }
    )
    mlflow_run.log_metric("refit_epochs", len(made.losses))
    for epoch, loss in enumerate(made.losses, start=1):
        mlflow_run.log_metric("refit_train_loss", loss, step=epoch)
