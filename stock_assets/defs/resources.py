"""Resources of the assets: parameters, stores and the registry."""

from typing import Any

import dagster as dg
from pydantic import Field
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.core.locations import find_locations
from stock_assets.defs.mlflow_run import RetrainingRun
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
