"""Addresses in the UIs of Dagster and MLflow, of the forms that the installed releases answer."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from stock_assets.service.app_state import AppState


@dataclass(frozen=True)
class Links:
    """Links to what a row names; None where the UI's address, or the name, is not known.

    Attributes
    ----------
    dagster_url, mlflow_url : str or None
        Addresses of the two UIs, without a slash at the end.
    model_name : str
        Name of the registered model.
    """

    dagster_url: str | None
    mlflow_url: str | None
    model_name: str

    def dagster_run(self, run_id: str | None) -> str | None:
        """Link a Dagster run."""
        if self.dagster_url is None or run_id is None:
            return None
        return f"{self.dagster_url}/runs/{_plain(run_id)}"

    def asset(self, name: str, partition: str) -> str | None:
        """Link a partition of an asset."""
        if self.dagster_url is None:
            return None
        chosen = urlencode({"view": "partitions", "partition": partition})
        return f"{self.dagster_url}/assets/{_plain(name)}?{chosen}"

    def mlflow_run(self, run_id: str | None) -> str | None:
        """Link an MLflow run; the UI finds its experiment."""
        if self.mlflow_url is None or run_id is None:
            return None
        return f"{self.mlflow_url}/#/runs/{_plain(run_id)}"

    def model(self, version: int | None) -> str | None:
        """Link a version of the registered model."""
        if self.mlflow_url is None or version is None:
            return None
        return f"{self.mlflow_url}/#/models/{_plain(self.model_name)}/versions/{version}"


def links_of(served: AppState) -> Links:
    """Give the links that the settings of the service allow."""
    settings = served.settings
    return Links(settings.dagster_ui, settings.mlflow_ui, served.params.tracking.model_name)


def _plain(name: str) -> str:
    return quote(name, safe="")
