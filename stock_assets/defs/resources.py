"""What assets are handed: parameters, stores, the registry, and the MLflow run of a retraining."""

import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.config import Params
from stock_assets.core.locations import find_locations
from stock_assets.registry import TRACKING_VARIABLE, Registry

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from stock_assets.storage.arrays import ArrayStore


class Store:
    """The ``stock_assets`` database and the array files, opened when first used."""

    @cached_property
    def engine(self) -> "Engine":
        """Engine on the database that the environment names."""
        from stock_assets.storage.database import store_engine

        return store_engine()

    @cached_property
    def arrays(self) -> "ArrayStore":
        """Array files of this installation."""
        from stock_assets.storage.arrays import ArrayStore

        return ArrayStore(find_locations().arrays_url)


@dg.resource(
    config_schema={
        "experiment_name": dg.StringSource,
        "mlflow_tracking_uri": dg.StringSource,
    },
    required_resource_keys={"registry"},
    description="The MLflow run of this retraining: one per Dagster run, shared by its steps",
)
def retraining_run(context: dg.InitResourceContext) -> Iterator[Any]:
    """Open the run with dagster-mlflow, and end it with the status of the Dagster run.

    dagster-mlflow is imported here, when a retraining begins, because it imports all of MLflow; and
    it leaves the MLflow runs of failed Dagster runs FINISHED, which is set right here.
    """
    import mlflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # it announces itself at import
        from dagster_mlflow.resources import MlFlow

    run, instance = context.run, context.instance
    if run is None or instance is None:
        raise dg.DagsterInvariantViolationError("an MLflow run belongs to a Dagster run")
    context.resources.registry.ensure_experiment()
    warnings.filterwarnings("ignore", "Class `MlFlow`", dg.BetaWarning)
    yield MlFlow(context)  # type: ignore[no-untyped-call]
    steps = instance.get_run_step_stats(run.run_id)
    failed = any(step.status is not None and step.status.value == "FAILURE" for step in steps)
    mlflow.end_run("FAILED" if failed else "FINISHED")


def resources(params: Params) -> dict[str, Any]:
    """Every resource of the graph, by the name assets ask for it."""
    return {
        "params": params,
        "store": Store(),
        "registry": Registry(params.tracking, params.prices.renames),
        "mlflow_run": retraining_run.configured(
            {
                "experiment_name": params.tracking.experiment,
                "mlflow_tracking_uri": {"env": TRACKING_VARIABLE},
            }
        ),
    }
