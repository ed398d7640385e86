"""Resources of the assets: parameters, stores, the registry, and a retraining's MLflow run."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.core.locations import find_locations
from stock_assets.registry import TRACKING_VARIABLE, Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.database import engine_for, store_engine


class ParamsResource(dg.ConfigurableResource[Params]):
    """The parameters of ``params.yaml``, as they were when the definitions were built."""

    values: dict[str, Any] = Field(description="Sections of params.yaml, defaults included")

    def create_resource(self, context: dg.InitResourceContext) -> Params:  # noqa: ARG002
        """Check the values and return them as typed parameters."""
        return Params.model_validate(self.values)


class Store(dg.ConfigurableResource["Store"]):
    """The ``stock_assets`` database and the array files."""

    database_url: str | None = Field(
        default=None, description="Database; named by STOCK_ASSETS_STORE_URL when empty"
    )
    arrays_url: str | None = Field(
        default=None,
        description="Folder or fsspec address of array files; those of the installation when empty",
    )

    @property
    def engine(self) -> Engine:
        """Engine on the database: one per address and process."""
        return engine_for(self.database_url) if self.database_url else store_engine()

    @property
    def arrays(self) -> ArrayStore:
        """Array files."""
        return ArrayStore(self.arrays_url or find_locations().arrays_url)


class RegistryResource(dg.ConfigurableResource[Registry]):
    """The registered model in MLflow, under the names that the parameters give."""

    params: dg.ResourceDependency[Params]

    def create_resource(self, context: dg.InitResourceContext) -> Registry:  # noqa: ARG002
        """Return the registry of this installation."""
        return Registry(self.params.tracking, self.params.prices.renames)


class RetrainingRun(dg.ConfigurableResource[Any]):
    """The MLflow run of a retraining: one per Dagster run, shared by its steps."""

    registry: dg.ResourceDependency[Registry]
    experiment: str = Field(description="MLflow experiment that retrainings are logged to")
    tracking_uri: str = Field(description="MLflow tracking store")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Any]:
        """Open the run with dagster-mlflow, and end it with the status of the Dagster run.

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


def resources(params: Params) -> dict[str, Any]:
    """Return every resource of the graph, under the name that assets use."""
    parameters = ParamsResource(values=params.model_dump(mode="json"))
    registry = RegistryResource(params=parameters)
    return {
        "params": parameters,
        "store": Store(),
        "registry": registry,
        "mlflow_run": RetrainingRun(
            registry=registry,
            experiment=params.tracking.experiment,
            tracking_uri=dg.EnvVar(TRACKING_VARIABLE),
        ),
    }
