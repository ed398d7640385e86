"""Stage 3, second half: the candidate model of a dataset."""

import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.config import Params, Training
from stock_assets.defs.dataset.assets import processed_features, scaled_features, scalers
from stock_assets.defs.metadata import (
    PER_DATASET,
    checkpoints,
    lineage,
    plots,
    positions,
    table,
    training_data,
)
from stock_assets.defs.resources import Store
from stock_assets.defs.training.tuning import tuned_params
from stock_assets.registry import TRAINING_PREFIX, Registry

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from stock_assets.features.scaling import Scaler
    from stock_assets.models.bundle import Recipe
    from stock_assets.models.candidate import Candidate
    from stock_assets.models.checkpoint import Checkpoints
    from stock_assets.models.data import TrainingData
    from stock_assets.models.tuning import Hyperparameters
    from stock_assets.storage.datasets import PanelRecord


@dg.asset(
    **PER_DATASET,
    group_name="training",
    kinds={"mlflow", "pytorch"},
    code_version="4",
    deps=[processed_features, scalers, scaled_features, tuned_params],
    description=(
        "A registered model version: network, scalers, feature list, tickers and interval widths "
        "in one bundle that turns raw bars into forecasts. Registered, not yet in production."
    ),
)
def candidate_model(
    context: dg.AssetExecutionContext,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
    registry: dg.ResourceParam[Registry],
    mlflow_run: dg.ResourceParam[Any],
) -> dg.MaterializeResult:
    """Train the candidate, log how it went to MLflow and register its bundle."""
    import pandas as pd

    from stock_assets.datasets.build import recorded_params
    from stock_assets.evaluation.scorecard import narrowed
    from stock_assets.features.scaling import Scaler
    from stock_assets.models.bundle import Bundle
    from stock_assets.models.candidate import train_candidate
    from stock_assets.models.tuning import Hyperparameters
    from stock_assets.reporting.figures import training_figure
    from stock_assets.storage.datasets import (
        load_panel,
        load_scalers,
        load_segments,
        load_tuning,
    )
    from stock_assets.storage.prices import read_bars

    record = load_panel(store.engine, context.partition_key)
    best = Hyperparameters.from_dict(load_tuning(store.engine, context.partition_key))
    segments = load_segments(store.engine, context.partition_key)
    features, target = map(Scaler.from_dict, load_scalers(store.engine, context.partition_key))
    train, validation = (positions(segments[name]) for name in ("train", "validation"))
    data = training_data(store, record, (features, target), train, validation)
    begun = checkpoints(store, context.partition_key)
    candidate = train_candidate(
        data,
        best,
        params.training,
        recorded_params(record).dataset.target,
        params.forecast.coverage,
        begun,
    )
    losses = training_figure(pd.DataFrame(candidate.fit.history))
    _log_training(mlflow_run, record, best, params.training, candidate, losses)
    recipe = _recipe(record, candidate, data, (features, target), params)
    bars = read_bars(store.engine, record.first_session, record.as_of_session, record.tickers)
    folds = _earlier_folds(record, recipe, best, params, store, bars, begun)
    if len(folds):
        mlflow_run.log_text(folds.to_csv(index=False), "evaluation/folds.csv")
    with tempfile.TemporaryDirectory() as folder:
        version = registry.register(
            Bundle(recipe, candidate.network), Path(folder) / "bundle", bars
        )
    shutil.rmtree(begun.folder, ignore_errors=True)
    last = candidate.fit.history[-1]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version.digest),
        metadata=lineage(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            model=registry.model_name,
            model_version=version.version,
            mlflow_run_id=version.mlflow_run_id,
            architecture=best.architecture,
            epochs=last.epoch,
            best_epoch=candidate.fit.best_epoch,
            validation_loss=candidate.fit.best.validation_loss,
            interval_widths=list(candidate.interval_widths),
            digest=version.digest,
            folds=table(narrowed(folds), limit=len(folds)) if len(folds) else None,
            plots=plots([losses]),
        ),
    )


def _recipe(
    record: "PanelRecord",
    candidate: "Candidate",
    data: "TrainingData",
    scalers: "tuple[Scaler, Scaler]",
    params: Params,
) -> "Recipe":
    """Gather all that the bundle needs besides the weights."""
    from stock_assets.datasets.build import recorded_params
    from stock_assets.features.scaling import fit_reference
    from stock_assets.features.splits import Segment
    from stock_assets.market.adjustment import AdjustmentFactors
    from stock_assets.models.bundle import Recipe

    features, target = scalers
    dataset_params = recorded_params(record)
    values, valid = data.windows.values.numpy(), data.windows.valid.numpy()
    train = Segment(int(data.train[0]), int(data.train[-1]))
    return Recipe(
        dataset_run_id=record.dataset_run_id,
        as_of=record.as_of_session,
        first_session=record.first_session,
        tickers=tuple(record.tickers),
        features=tuple(record.features),
        basis=dataset_params.features.basis,
        adjustment_factors={
            ticker: AdjustmentFactors(**anchor)
            for ticker, anchor in record.adjustment_factors.items()
        },
        target=dataset_params.dataset.target,
        network=candidate.network.spec,
        feature_scaler=features,
        target_scaler=target,
        reference=fit_reference(
            values,
            valid,
            features,
            train,
            data.windows.length,
            params.monitoring.window_sessions,
        ),
        interval_widths=candidate.interval_widths,
        coverage=params.forecast.coverage,
    )


def _earlier_folds(
    record: "PanelRecord",
    recipe: "Recipe",
    best: "Hyperparameters",
    params: Params,
    store: Store,
    bars: "pd.DataFrame",
    begun: "Checkpoints",
) -> "pd.DataFrame":
    """Score the candidate's network on the test segment of every fold but the dataset's own."""
    from stock_assets.datasets.build import recorded_params
    from stock_assets.models.fold_scores import score_folds
    from stock_assets.models.folds import open_folds

    recorded, path = recorded_params(record), store.arrays.local_path(record.location)
    folds = recorded.walk_forward
    earlier = islice(open_folds(path, recorded.dataset, folds), folds.folds - 1)
    return score_folds(earlier, recipe, best, params.training, bars, begun)


def _log_training(
    mlflow_run: Any,
    record: "PanelRecord",
    best: "Hyperparameters",
    training: Training,
    candidate: "Candidate",
    losses: "Figure",
) -> None:
    """Log parameters and the losses of every epoch to the MLflow run of this retraining."""
    from stock_assets.reporting.page import page

    mlflow_run.set_tags({"dataset_run_id": record.dataset_run_id})
    mlflow_run.log_params(
        {
            "dataset_run_id": record.dataset_run_id,
            "as_of_session": record.as_of_session.isoformat(),
            "tickers": ",".join(record.tickers),
            "features": len(record.features),
            **best.to_dict(),
            **{f"{TRAINING_PREFIX}{name}": value for name, value in training.model_dump().items()},
        }
    )
    for score in candidate.fit.history:
        mlflow_run.log_metrics(
            {
                "train_loss": score.train_loss,
                "validation_loss": score.validation_loss,
                "learning_rate": score.learning_rate,
            },
            step=score.epoch,
        )
    mlflow_run.log_metric("best_epoch", candidate.fit.best_epoch)
    mlflow_run.log_text(page(f"Dataset {record.dataset_run_id}", "", [losses]), "training.html")
