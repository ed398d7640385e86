"""The MLflow run of a retraining, as a resource of the assets."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field

from stock_assets.registry import Registry


class RetrainingRun(dg.ConfigurableResource[Any]):
    """The MLflow run of a retraining: one per Dagster run, shared by its steps."""

    registry: dg.ResourceDependency[Registry]
    experiment: str = Field(description="MLflow experiment that retrainings are logged to")
    tracking_uri: str = Field(description="MLflow tracking store")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Any]:
        """Open the run with dagster-mlflow and end it.

        Its status is FAILED if a step of the Dagster run has failed so far, otherwise FINISHED.
        dagster-mlflow leaves the MLflow runs of failed Dagster runs FINISHED, so the status is set
        here. It imports all of MLflow, so it is imported when a retraining begins.
        """
        import mlflow

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)  # raised by the import
            from dagster_mlflow.resources import MlFlow

        run, instance = context.run, context.instance
        if run is None or instance is None:
            raise dg.DagsterInvariantViolationError("an MLflow run belongs to a Dagster run")
        self.registry.ensure_experiment()
        warnings.filterwarnings("ignore", "Class `MlFlow`", dg.BetaWarning)
        settings = {"experiment_name": self.experiment, "mlflow_tracking_uri": self.tracking_uri}
        yield MlFlow(context.replace_config(settings))  # type: ignore[no-untyped-call]
        steps = instance.get_run_step_stats(run.run_id)
        failed = any(step.status is not None and step.status.value == "FAILURE" for step in steps)
        mlflow.end_run("FAILED" if failed else "FINISHED")
