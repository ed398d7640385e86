"""Log a retraining to its MLflow run: parameters, losses, trials, tables and plots."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from stock_assets.config import Training
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.models.members import member_name
from stock_assets.pipeline.training_logs import (
    TRAINING_PREFIX,
    later_tags,
    training_environment,
)
from stock_assets.registry import Registry
from stock_assets.reporting.charts import Chart
from stock_assets.reporting.page import page

if TYPE_CHECKING:
    import pandas as pd

    from stock_assets.models.refit import Refit
    from stock_assets.pipeline.promotion import Comparison
    from stock_assets.pipeline.training import Later, Search, TrainedCandidate

_RUN_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""MLflow's run status for Optuna's state of a trial."""


def log_search(registry: Registry, mlflow_run: Any, search: Search, figures: list[Chart]) -> None:
    """Log each trial as a run nested in the retraining's, and the plots to the latter."""
    from mlflow.entities import Metric, Param

    client, parent = registry.client(), mlflow_run.active_run().info
    for trial in search.tuned.study.get_trials(deepcopy=False):
        state = trial.state.name
        if state not in _RUN_STATUS:
            continue
        began, ended = map(_milliseconds, (trial.datetime_start, trial.datetime_complete))
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
    mlflow_run.log_text(page(f"Study {search.study}", "", figures), "tuning.html")


def _milliseconds(moment: datetime | None) -> int:
    """Return a moment as MLflow takes it; a finished trial has both of its moments."""
    return 0 if moment is None else int(moment.timestamp() * 1000)


def log_training(
    mlflow_run: Any, trained: TrainedCandidate, training: Training, losses: Chart
) -> None:
    """Log the parameters of a training and the losses of every epoch."""
    record = trained.record
    environment = training_environment(trained.bundle)
    mlflow_run.set_tags({"dataset_run_id": record.dataset_run_id, **environment})
    mlflow_run.log_params(
        {
            "dataset_run_id": record.dataset_run_id,
            "as_of_session": record.as_of_session.isoformat(),
            "tickers": ",".join(record.tickers),
            "features": len(record.features),
            **trained.best.to_dict(),
            **{f"{TRAINING_PREFIX}{name}": value for name, value in training.model_dump().items()},
        }
    )
    for number, fit in enumerate(trained.candidate.fits):
        for score in fit.history:
            figures = {
                "train_loss": score.train_loss,
                "validation_loss": score.validation_loss,
                "learning_rate": score.learning_rate,
            }
            mlflow_run.log_metrics(
                {member_name(name, number): value for name, value in figures.items()},
                step=score.epoch,
            )
        mlflow_run.log_metric(member_name("best_epoch", number), fit.best_epoch)
    mlflow_run.log_text(page(f"Dataset {record.dataset_run_id}", "", [losses]), "training.html")


def log_comparison(
    mlflow_run: Any,
    comparison: Comparison,
    tables: dict[str, pd.DataFrame],
    figures: list[Chart],
) -> None:
    """Log the scores, tables and plots of a promotion decision."""
    from stock_assets.evaluation.scorecard import narrow

    outcome, decided = comparison.outcome, comparison.decided
    for name, card in outcome.scores.items():
        prefix = "test" if name == "candidate" else name
        mlflow_run.log_metrics(
            {
                f"{prefix}_{figure}": float(value)
                for figure, value in card.to_dict().items()
                if isinstance(value, int | float)
            }
        )
    sections = [
        ("All tickers together", tables["models"]),
        ("Per ticker", tables["tickers"]),
        ("Intervals", tables["intervals"]),
    ]
    if tables["horizons"]["horizon"].max() > 1:
        sections.insert(1, ("Per horizon", narrow(tables["horizons"])))
    if outcome.unmatched:
        without = "without a counterpart in production, which decided nothing"
        sections += [
            (f"Per horizon, {without}", narrow(tables["unmatched_horizons"])),
            (f"Per ticker, {without}", tables["unmatched_tickers"]),
        ]
    title = f"Dataset {decided.dataset_run_id} on its test segment"
    mlflow_run.log_text(page(title, decided.reason, figures, sections), "evaluation.html")
    for name, frame in tables.items():
        mlflow_run.log_text(frame.to_csv(index=False), f"evaluation/{name}.csv")


def log_refit(
    mlflow_run: Any, version: ModelVersion, refit: Refit, later: Later | None = None
) -> None:
    """Log the version of a refit, the digest of its weights, and its training losses.

    Of one as of a later session than its dataset's, also the moment whose prices it read.
    """
    from stock_assets.models.training import weights_digest

    mlflow_run.set_tags(
        {
            "refit_version": version.version,
            "refit_of": version.refit_of,
            "refit_weights": weights_digest(refit.bundle.network),
            **({} if later is None or later.known_at is None else later_tags(later.known_at)),
            **training_environment(refit.bundle, is_refit=True),
        }
    )
    for number, losses in enumerate(refit.losses):
        mlflow_run.log_metric(member_name("refit_epochs", number), len(losses))
        for epoch, loss in enumerate(losses, start=1):
            mlflow_run.log_metric(member_name("refit_train_loss", number), loss, step=epoch)
