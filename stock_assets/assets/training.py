"""Stage 3: tuned hyperparameters and the candidate model of a dataset."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.assets.common import PER_DATASET, lineage, table
from stock_assets.assets.dataset import processed_features, scaled_features, scalers
from stock_assets.config import Params
from stock_assets.locations import find_locations
from stock_assets.provenance import plain_digest
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
    code_version="2",
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
    registry: dg.ResourceParam[Registry],
    mlflow_run: dg.ResourceParam[Any],
) -> dg.MaterializeResult:
    """Search, store the best hyperparameters with every trial, and log the trials to MLflow."""
    from stock_assets.modelling.study_report import importances, improvements
    from stock_assets.modelling.tuning import tune
    from stock_assets.storage.datasets import load_panel, load_stretches, save_tuning

    record = load_panel(store.engine, context.partition_key)
    stretches = load_stretches(store.engine, context.partition_key)
    study = _study_name(context.partition_key, params, stretches["train"].digest)
    tuned = tune(
        _training_data(store, record),
        params.tuning,
        params.training,
        study,
        os.environ.get(OPTUNA_VARIABLE),
    )
    best = tuned.best.to_dict()
    found = improvements(tuned.trials)
    lowest = float(found["value"].min())
    trials = tuned.trials.assign(duration=tuned.trials["duration"].dt.total_seconds())
    save_tuning(
        store.engine,
        context.partition_key,
        best,
        lowest,
        trials.astype(object).where(trials.notna(), None).to_dict("records"),
    )
    shares = importances(tuned.study, params.training.seed)
    _log_study(registry, mlflow_run, tuned.study, params.training.seed)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(plain_digest(best)),
        metadata=lineage(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            study=study,
            mlflow_run_id=mlflow_run.active_run().info.run_id,
            best_validation_loss=lowest,
            best_params=dg.MetadataValue.json(best),
            importances=dg.MetadataValue.json(shares),
            trials=len(tuned.trials),
            trials_complete=len(found),
            trials_pruned=int((tuned.trials["state"] == "PRUNED").sum()),
            history=table(found),
            all_trials=table(trials.sort_values("value")),
        ),
    )


def _study_name(dataset_id: str, params: Params, data_digest: str) -> str:
    """Name a study by what its trials depend on: how fast they are made is not part of it."""
    speed = {"tuning": {"workers", "timeout_seconds"}, "training": {"epochs", "patience"}}
    settings = {
        name: getattr(params, name).model_dump(mode="json", exclude=left_out)
        for name, left_out in speed.items()
    }
    return f"{dataset_id}-{plain_digest([settings, data_digest])[:12]}"


_RUN_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""How a trial that ended in a state of Optuna's ended in MLflow's words."""


def _log_study(registry: Registry, mlflow_run: Any, study: Any, seed: int) -> None:
    """Log each trial as a run within that of this retraining, and the plots to the latter."""
    from mlflow.entities import Metric, Param

    from stock_assets.evaluation.plots import page
    from stock_assets.modelling.study_report import study_figures

    client, parent = registry.client(), mlflow_run.active_run().info
    for trial in study.get_trials(deepcopy=False):
        state = trial.state.name
        if state not in _RUN_STATUS:
            continue
        began, ended = (
            int(moment.timestamp() * 1000)
            for moment in (trial.datetime_start, trial.datetime_complete)
        )
        run = client.create_run(
            parent.experiment_id,
            began,
            tags={"mlflow.parentRunId": parent.run_id, "state": state},
            run_name=f"trial {trial.number}",
        ).info.run_id
        losses = [
            Metric("validation_loss", loss, ended, epoch)
            for epoch, loss in trial.intermediate_values.items()
        ]
        value = [] if trial.value is None else [Metric("value", trial.value, ended, 0)]
        chosen = [Param(name, str(choice)) for name, choice in trial.params.items()]
        client.log_batch(run, metrics=losses + value, params=chosen)
        client.set_terminated(run, _RUN_STATUS[state], ended)
    title = f"Study {study.study_name}"
    mlflow_run.log_text(page(title, "", study_figures(study, seed)), "tuning.html")


@dg.asset(
    **PER_DATASET,
    group_name="training",
    kinds={"mlflow", "pytorch"},
    code_version="2",
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
    from stock_assets.storage.datasets import load_panel, load_stretches, load_tuning
    from stock_assets.storage.prices import read_bars

    record = load_panel(store.engine, context.partition_key)
    best = Hyperparameters.from_dict(load_tuning(store.engine, context.partition_key))
    data = _training_data(store, record)()
    checkpoint = find_locations().checkpoint_file(context.partition_key)
    stretches = load_stretches(store.engine, context.partition_key)
    candidate = train_candidate(
        data,
        best,
        params.training,
        params.forecast.coverage,
        checkpoint,
        stretches["train"].digest,
    )
    _log_training(mlflow_run, record, best, candidate)
    recipe = _recipe(record, best, data, candidate, params, store)
    bars = read_bars(store.engine, record.first_session, record.as_of_session, record.tickers)
    with tempfile.TemporaryDirectory() as folder:
        version = registry.register(
            Bundle(recipe, candidate.network), Path(folder) / "bundle", bars
        )
    checkpoint.unlink(missing_ok=True)
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


def _training_data(store: Store, record: "PanelRecord") -> "Callable[[], TrainingData]":
    """Give what maps the scaled arrays of a dataset, in this process or in another."""
    from stock_assets.features.windows import Stretch
    from stock_assets.modelling.training import load_training_data
    from stock_assets.reproduction import recorded_params
    from stock_assets.storage.datasets import load_stretches

    stretches = load_stretches(store.engine, record.dataset_run_id)
    train, validation = (
        Stretch(stretches[name].first_position, stretches[name].last_position)
        for name in ("train", "validation")
    )
    path = store.arrays.local_path(stretches["train"].location)
    window = recorded_params(record).dataset.window
    return partial(load_training_data, path, train, validation, window)


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
    from stock_assets.reproduction import recorded_params
    from stock_assets.storage.datasets import load_scalers

    features, target = map(Scaler.from_dict, load_scalers(store.engine, record.dataset_run_id))
    dataset_params = recorded_params(record)
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
