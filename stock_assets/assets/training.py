"""Stage 3: tuned hyperparameters and the candidate model of a dataset."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.assets.common import PER_DATASET, lineage, plain_digest, table
from stock_assets.assets.dataset import processed_features, scaled_features, scalers
from stock_assets.config import Params
from stock_assets.registry import Registry
from stock_assets.resources import Store

if TYPE_CHECKING:
    from stock_assets.modelling.bundle import Recipe
    from stock_assets.modelling.candidate import Candidate
    from stock_assets.modelling.training import TrainingData
    from stock_assets.modelling.tuning import Hyperparameters
    from stock_assets.storage.datasets import PanelRecord

OPTUNA_VARIABLE = "STOCK_ASSETS_OPTUNA_URL"


@dg.asset(
    **PER_DATASET,
    group_name="training",
    kinds={"optuna", "pytorch"},
    code_version="1",
    deps=[scaled_features],
    description=(
        "The best hyperparameters on the **validation** stretch, found by Optuna; the whole study "
        "is kept. A killed search goes on where it stopped."
    ),
)
def tuned_params(
    context: dg.AssetExecutionContext,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """Search, and store the best hyperparameters with every trial."""
    from stock_assets.modelling.tuning import tune
    from stock_assets.storage.datasets import load_panel, load_stretches, save_tuning

    record = load_panel(store.engine, context.partition_key)
    stretches = load_stretches(store.engine, context.partition_key)
    settings = params.model_dump(mode="json", include={"tuning", "training"})
    tuned_on = plain_digest([settings, stretches["train"].digest])
    study = f"{context.partition_key}-{tuned_on[:12]}"
    tuned = tune(
        _training_data(store, record),
        params.tuning,
        params.training,
        study,
        os.environ.get(OPTUNA_VARIABLE),
    )
    best = tuned.best.to_dict()
    complete = tuned.trials[tuned.trials["state"] == "COMPLETE"]
    trials = tuned.trials.assign(duration=tuned.trials["duration"].dt.total_seconds())
    save_tuning(
        store.engine,
        context.partition_key,
        best,
        float(complete["value"].min()),
        trials.astype(object).where(trials.notna(), None).to_dict("records"),
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(plain_digest(best)),
        metadata=lineage(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            study=study,
            best_validation_loss=float(complete["value"].min()),
            best_params=dg.MetadataValue.json(best),
            trials=len(tuned.trials),
            trials_complete=len(complete),
            trials_pruned=int((tuned.trials["state"] == "PRUNED").sum()),
            all_trials=table(trials.sort_values("value")),
        ),
    )


@dg.asset(
    **PER_DATASET,
    group_name="training",
    kinds={"mlflow", "pytorch"},
    code_version="1",
    deps=[processed_features, scalers, scaled_features, tuned_params],
    description=(
        "A registered model version: network, scalers, feature list, tickers and interval width in "
        "one bundle that turns raw bars into forecasts. Registered, not yet in production."
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
    from stock_assets.modelling.bundle import Bundle
    from stock_assets.modelling.candidate import train_candidate
    from stock_assets.modelling.tuning import Hyperparameters
    from stock_assets.storage.datasets import load_panel, load_tuning
    from stock_assets.storage.prices import read_bars

    record = load_panel(store.engine, context.partition_key)
    best = Hyperparameters.from_dict(load_tuning(store.engine, context.partition_key))
    data = _training_data(store, record)
    candidate = train_candidate(data, best, params.training, params.forecast.coverage)
    _log_training(mlflow_run, record, best, candidate)
    recipe = _recipe(record, best, data, candidate, params, store)
    bars = read_bars(store.engine, record.first_session, record.as_of_session, record.tickers)
    with tempfile.TemporaryDirectory() as folder:
        version = registry.register(
            Bundle(recipe, candidate.network), Path(folder) / "bundle", bars
        )
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
            interval_width=candidate.interval_width,
            digest=version.digest,
        ),
    )


def _training_data(store: Store, record: "PanelRecord") -> "TrainingData":
    """Map the scaled arrays of a dataset."""
    from stock_assets.features.windows import Stretch
    from stock_assets.modelling.candidate import load_training_data
    from stock_assets.storage.datasets import load_stretches

    stretches = load_stretches(store.engine, record.dataset_run_id)
    train, validation = (
        Stretch(stretches[name].first_position, stretches[name].last_position)
        for name in ("train", "validation")
    )
    path = store.arrays.local_path(stretches["train"].location)
    window = Params.model_validate(record.params).dataset.window
    return load_training_data(path, train, validation, window)


def _recipe(
    record: "PanelRecord",
    best: "Hyperparameters",
    data: "TrainingData",
    candidate: "Candidate",
    params: Params,
    store: Store,
) -> "Recipe":
    """Gather all that the bundle needs besides the weights."""
    from stock_assets.features.scaling import Scaler
    from stock_assets.market.adjustment import Anchor
    from stock_assets.modelling.bundle import Recipe
    from stock_assets.storage.datasets import load_scalers

    features, target = map(Scaler.from_dict, load_scalers(store.engine, record.dataset_run_id))
    dataset_params = Params.model_validate(record.params)
    return Recipe(
        dataset_run_id=record.dataset_run_id,
        as_of=record.as_of_session,
        first_session=record.first_session,
        tickers=tuple(record.tickers),
        features=tuple(record.features),
        basis=dataset_params.features.basis,
        anchors={ticker: Anchor(**anchor) for ticker, anchor in record.anchors.items()},
        target=dataset_params.dataset.target,
        network=best.network_spec(data),
        feature_scaler=features,
        target_scaler=target,
        interval_width=candidate.interval_width,
        coverage=params.forecast.coverage,
    )


def _log_training(
    mlflow_run: Any, record: "PanelRecord", best: "Hyperparameters", candidate: "Candidate"
) -> None:
    """Log parameters and the losses of every epoch to the MLflow run of this retraining."""
    mlflow_run.set_tags({"dataset_run_id": record.dataset_run_id})
    mlflow_run.log_params(
        {
            "dataset_run_id": record.dataset_run_id,
            "as_of_session": record.as_of_session.isoformat(),
            "tickers": ",".join(record.tickers),
            "features": len(record.features),
            **best.to_dict(),
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
