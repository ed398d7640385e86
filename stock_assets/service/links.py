"""Links into the UIs of Dagster and MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from stock_assets.service.app_state import AppState


@dataclass(frozen=True)
class Links:
    """Addresses of runs, assets and models; None where the UI or the id is unknown.

    Attributes
    ----------
    dagster_url, mlflow_url : str or None
        Addresses of the two UIs, without a trailing slash.
    model_name : str
        Name of the registered model.
    """

    dagster_url: str | None
    mlflow_url: str | None
    model_name: str

    def dagster_run(self, run_id: str | None) -> str | None:
        """Return the address of a Dagster run."""
        if self.dagster_url is None or run_id is None:
            return None
        return f"{self.dagster_url}/runs/{_quoted(run_id)}"

    def asset(self, name: str, partition: str | None) -> str | None:
        """Return the address of a partition of an asset."""
        if self.dagster_url is None or partition is None:
            return None
        view = urlencode({"view": "partitions", "partition": partition})
        return f"{self.dagster_url}/assets/{_quoted(name)}?{view}"

    def mlflow_run(self, run_id: str | None) -> str | None:
        """Return the address of an MLflow run; the UI finds its experiment."""
        if self.mlflow_url is None or run_id is None:
            return None
        return f"{self.mlflow_url}/#/runs/{_quoted(run_id)}"

    def model(self, version: int | None) -> str | None:
        """Return the address of a version of the registered model."""
        if self.mlflow_url is None or not version:  # persistence is no version of MLflow
            return None
        return f"{self.mlflow_url}/#/models/{_quoted(self.model_name)}/versions/{version}"


def links_for(state: AppState) -> Links:
    """Return the links that the settings allow."""
    settings = state.settings
    return Links(settings.dagster_ui, settings.mlflow_ui, state.model_name)


def _quoted(name: str) -> str:
    return quote(name, safe="")
