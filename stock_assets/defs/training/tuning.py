"""Stage 3, first half: the hyperparameters of a dataset."""

import os
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.config import Params, WalkForward
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import plain_digest, training_code
from stock_assets.defs.dataset.assets import processed_features, scaled_features
from stock_assets.defs.metadata import PER_DATASET, lineage, plots, table
from stock_assets.defs.resources import Store
from stock_assets.registry import Registry

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

OPTUNA_VARIABLE = "STOCK_ASSETS_OPTUNA_URL"


@dg.asset(
    **PER_DATASET,
    group_name="training",
    kinds={"optuna", "pytorch"},
    code_version="3",
    deps=[processed_features, scaled_features],
    description=(
        "The best hyperparameters on the **validation** segment, or on those of all walk-forward "
        "folds, found by Optuna, which first tries those of the dataset before; the whole study is "
        "kept. A killed search goes on where it stopped."
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
    from stock_assets.datasets.build import recorded_params
    from stock_assets.models.folds import fold_data
    from stock_assets.models.study_report import importances, improvements, study_figures
    from stock_assets.models.tuning import START, Hyperparameters, tune
    from stock_assets.storage.datasets import (
        load_panel,
        load_segments,
        previous_best_params,
        save_tuning,
    )

    record = load_panel(store.engine, context.partition_key)
    segments = load_segments(store.engine, context.partition_key)
    recorded, start = (
        recorded_params(record),
        previous_best_params(store.engine, record.as_of_session),
    )
    folds = recorded.walk_forward
    study = _study_name(context.partition_key, params, folds, segments["train"].digest)
    path = store.arrays.local_path(record.location)
    tuned = tune(
        partial(fold_data, path, recorded.dataset, folds),
        params.tuning,
        params.training,
        study,
        _optuna_address(),
        Hyperparameters.from_dict(start) if start else None,
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
        plain_records(trials),
    )
    shares = importances(tuned.study, params.training.seed)
    figures = study_figures(tuned.study, params.training.seed)
    _log_study(registry, mlflow_run, tuned.study, figures)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(plain_digest(best)),
        metadata=lineage(
            dataset_run_id=record.dataset_run_id,
            as_of_session=record.as_of_session,
            study=study,
            started_with=dg.MetadataValue.json(tuned.study.user_attrs[START]),
            mlflow_run_id=mlflow_run.active_run().info.run_id,
            best_validation_loss=lowest,
            best_params=dg.MetadataValue.json(best),
            importances=dg.MetadataValue.json(shares),
            trials=len(tuned.trials),
            trials_asked_for=params.tuning.trials,
            trials_complete=len(found),
            trials_pruned=int((tuned.trials["state"] == "PRUNED").sum()),
            plots=plots(figures),
            history=table(found),
            all_trials=table(trials.sort_values("value")),
        ),
    )


def plain_records(trials: "pd.DataFrame") -> list[dict[str, Any]]:
    """Give trials as JSON holds them: it has no number for a loss that diverged, or for none."""
    finite = trials.replace([float("inf"), float("-inf")], float("nan")).notna()
    plain = trials.astype(object).where(finite, None).to_dict("records")
    return [{str(name): value for name, value in trial.items()} for trial in plain]


def _optuna_address() -> str:
    """Where the study is kept; without a database a killed search would start anew."""
    try:
        return os.environ[OPTUNA_VARIABLE]
    except KeyError:
        raise StockAssetsError(
            f"no Optuna database is named by {OPTUNA_VARIABLE}",
            'Run eval "$(stock-assets env)" first',
        ) from None


def _study_name(dataset_id: str, params: Params, folds: WalkForward, data_digest: str) -> str:
    """Name a study by what its trials depend on: how many and how fast is not part of it."""
    speed = {"tuning": {"workers", "timeout_seconds", "trials"}, "training": {"epochs", "patience"}}
    settings = {
        name: getattr(params, name).model_dump(mode="json", exclude=speed.get(name))
        for name in ("tuning", "training")
    }
    libraries = {name: version(name) for name in ("torch", "optuna")}
    divided = folds.model_dump(mode="json")
    decisive = [settings, divided, data_digest, training_code(), libraries]
    return f"{dataset_id}-{plain_digest(decisive)[:12]}"


_RUN_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""How a trial that ended in a state of Optuna's ended in MLflow's words."""


def _log_study(registry: Registry, mlflow_run: Any, study: Any, figures: "list[Figure]") -> None:
    """Log each trial as a run within that of this retraining, and the plots to the latter."""
    from mlflow.entities import Metric, Param

    from stock_assets.reporting.page import page

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
    mlflow_run.log_text(page(title, "", figures), "tuning.html")
