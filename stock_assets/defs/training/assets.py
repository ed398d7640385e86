"""Training: ``tuned_params`` and ``candidate_model``, by :mod:`stock_assets.pipeline.training`."""

import shutil
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from stock_assets.config import Device, Params
from stock_assets.config.section import Count, PositiveFloat, PositiveInt
from stock_assets.core.fingerprints import plain_digest
from stock_assets.defs.checks import require_dataset_passed
from stock_assets.defs.metadata import (
    PER_DATASET,
    artifact_path,
    configured,
    describe_table,
    head_metadata,
    parameter,
    plain_metadata,
    table,
)
from stock_assets.defs.resources import Store
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.registry import Registry
from stock_assets.storage.datasets import save_tuning
from stock_assets.storage.tables import optimization_results

if TYPE_CHECKING:
    from stock_assets.pipeline.training import Search, TrainedCandidate


def tuned_params_asset(params: Params) -> dg.AssetsDefinition:
    """Build ``tuned_params``; the parameters are the defaults of a run's settings."""

    class TuningConfig(dg.Config):
        """Settings of the search that a run may change."""

        trials: PositiveInt = parameter(params.tuning, "trials")
        epochs: PositiveInt = parameter(params.tuning, "epochs")
        patience: PositiveInt = parameter(params.tuning, "patience")
        timeout_seconds: PositiveFloat | None = parameter(params.tuning, "timeout_seconds")
        workers: PositiveInt = parameter(params.tuning, "workers")
        seed: Count = parameter(params.training, "seed")

    @dg.asset(
        **PER_DATASET,
        group_name="training",
        kinds={"optuna", "pytorch"},
        code_version="4",
        metadata=describe_table(optimization_results),
        deps=["processed_features", "scaled_features"],
        description=(
            "The best hyperparameters on the validation segment, or on those of all walk-forward "
            "folds, found by Optuna, which first tries those of an earlier dataset whose "
            "validation ended before the test segment. The whole study is kept, and an interrupted "
            "search continues where it stopped."
        ),
    )
    def tuned_params(
        context: dg.AssetExecutionContext,
        config: TuningConfig,
        params: dg.ResourceParam[Params],
        store: dg.ResourceParam[Store],
        registry: dg.ResourceParam[Registry],
        mlflow_run: dg.ResourceParam[Any],
    ) -> dg.MaterializeResult:
        """Search, store the best hyperparameters with every trial, and log trials to MLflow."""
        from stock_assets.models.study_report import importances, study_figures
        from stock_assets.pipeline.mlflow_logs import log_search
        from stock_assets.pipeline.recovery import require_known_versions
        from stock_assets.pipeline.training import plain_records, search_hyperparameters

        require_known_versions(store.engine, registry)
        require_dataset_passed(store, context.partition_key)
        tuning = configured(params.tuning, config, "seed")
        training = params.training.model_copy(update={"seed": config.seed})
        found = search_hyperparameters(
            store.engine, store.arrays, context.partition_key, tuning, training
        )
        best, study = found.tuned.best.to_dict(), found.tuned.study
        save_tuning(
            store.engine,
            context.partition_key,
            best,
            found.lowest_loss,
            plain_records(found.trials),
            config.model_dump(),
            context.run.run_id,
        )
        shares = importances(study, config.seed)
        figures = study_figures(study, config.seed)
        log_search(registry, mlflow_run, found, figures)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(plain_digest(best)),
            metadata=_search_metadata(found, config)
            | plain_metadata(
                importances=dg.MetadataValue.json(shares),
                mlflow_run_id=mlflow_run.active_run().info.run_id,
                plots=artifact_path(mlflow_run, "tuning.html"),
                **head_metadata(store.engine),
            ),
        )

    return tuned_params


def _search_metadata(found: "Search", config: dg.Config) -> dict[str, Any]:
    from stock_assets.models.tuning import START

    return plain_metadata(
        dataset_run_id=found.record.dataset_run_id,
        as_of_session=found.record.as_of_session,
        study=found.study,
        started_with=dg.MetadataValue.json(found.tuned.study.user_attrs[START]),
        best_validation_loss=found.lowest_loss,
        best_params=dg.MetadataValue.json(found.tuned.best.to_dict()),
        settings=dg.MetadataValue.json(config.model_dump()),
        trials=len(found.trials),
        trials_requested=config.model_dump()["trials"],
        trials_complete=len(found.improvements),
        trials_pruned=found.pruned,
        history=table(found.improvements),
        all_trials=table(found.trials.sort_values("value")),
    )


def candidate_model_asset(params: Params) -> dg.AssetsDefinition:
    """Build ``candidate_model``; the parameters are the defaults of a run's settings."""

    class TrainingConfig(dg.Config):
        """Settings of the candidate's training that a run may change."""

        epochs: PositiveInt = parameter(params.training, "epochs")
        patience: PositiveInt = parameter(params.training, "patience")
        threads: PositiveInt = parameter(params.training, "threads")
        device: Device = parameter(params.training, "device")
        ensemble: PositiveInt = parameter(params.training, "ensemble")
        seed: Count = parameter(params.training, "seed")

    @dg.asset(
        **PER_DATASET,
        group_name="training",
        kinds={"mlflow", "pytorch"},
        code_version="5",
        deps=["processed_features", "scalers", "scaled_features", "tuned_params"],
        description=(
            "A registered model version: network, scalers, feature list, tickers, shrinkage and "
            "intervals in one bundle that turns raw bars into forecasts. Not in production until "
            "it is promoted."
        ),
    )
    def candidate_model(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        params: dg.ResourceParam[Params],
        store: dg.ResourceParam[Store],
        registry: dg.ResourceParam[Registry],
        mlflow_run: dg.ResourceParam[Any],
    ) -> dg.MaterializeResult:
        """Train the candidate, log its training to MLflow and register its bundle."""
        from stock_assets.evaluation.scorecard import narrow
        from stock_assets.pipeline.mlflow_logs import log_training
        from stock_assets.pipeline.recovery import require_known_versions, skip_given_numbers
        from stock_assets.pipeline.training import score_earlier_folds, train_on_dataset
        from stock_assets.reporting.training_figures import training_figure

        require_known_versions(store.engine, registry)
        require_dataset_passed(store, context.partition_key)
        used = params.model_copy(update={"training": configured(params.training, config)})
        trained = train_on_dataset(store.engine, store.arrays, context.partition_key, used)
        losses = training_figure([pd.DataFrame(fit.history) for fit in trained.candidate.fits])
        log_training(mlflow_run, trained, used.training, losses)
        folds = score_earlier_folds(trained, store.arrays, used.training, used.forecast)
        if len(folds):
            mlflow_run.log_text(folds.to_csv(index=False), "evaluation/folds.csv")
        skip_given_numbers(store.engine, registry)
        version = registry.register(trained.bundle, trained.bars)
        shutil.rmtree(trained.checkpoints.folder, ignore_errors=True)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(trained.bundle.digest()),
            metadata=_training_metadata(trained, version)
            | plain_metadata(
                model=registry.model_name,
                settings=dg.MetadataValue.json(config.model_dump()),
                folds=table(narrow(folds), limit=len(folds)) if len(folds) else None,
                plots=artifact_path(mlflow_run, "training.html"),
                **head_metadata(store.engine),
            ),
        )

    return candidate_model


def _training_metadata(trained: "TrainedCandidate", version: ModelVersion) -> dict[str, Any]:
    fit = trained.candidate.fit
    return plain_metadata(
        dataset_run_id=trained.record.dataset_run_id,
        as_of_session=trained.record.as_of_session,
        model_version=version.version,
        mlflow_run_id=version.mlflow_run_id,
        digest=version.digest,
        architecture=trained.best.architecture,
        epochs=fit.history[-1].epoch,
        best_epoch=fit.best_epoch,
        newest_label=trained.bundle.recipe.newest_label,
        validation_loss=fit.best.validation_loss,
        shrinkage=list(trained.bundle.recipe.shrinkage),
        intervals=dg.MetadataValue.json(trained.bundle.recipe.intervals.to_dict()),
    )
