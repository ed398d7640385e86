"""Folders of an installation, from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Locations(BaseModel):
    """Folders of this installation.

    ``project`` holds params.yaml, dagster.yaml and workspace.yaml; ``home`` holds all data.
    """

    model_config = ConfigDict(frozen=True)

    project: Path
    home: Path
    arrays_url: str

    @property
    def params_file(self) -> Path:
        """The parameter file."""
        return self.project / "params.yaml"

    @property
    def postgres_folder(self) -> Path:
        """Data folder of the embedded PostgreSQL."""
        return self.home / "postgres"

    @property
    def artifacts_folder(self) -> Path:
        """Root of MLflow's artifacts."""
        return self.home / "mlflow"

    def checkpoints_folder(self, dataset_id: str) -> Path:
        """Return the folder of training checkpoints, deleted once the model is registered."""
        return self.home / "checkpoints" / dataset_id

    @property
    def forecasts_folder(self) -> Path:
        """``latest_predictions.json`` and ``historical/``."""
        return self.home / "forecasts"

    @property
    def reports_folder(self) -> Path:
        """Reports written for people."""
        return self.home / "reports"


def find_locations() -> Locations:
    """Resolve the project and data folders.

    ``STOCK_ASSETS_PROJECT`` names the project, else the working folder or the nearest folder above
    it with a params.yaml; ``STOCK_ASSETS_HOME`` names the data folder, else ``.stock_assets`` in
    the project; ``STOCK_ASSETS_ARRAYS_URL`` any fsspec address for arrays, else ``arrays`` in the
    home.
    """
    named = os.environ.get("STOCK_ASSETS_PROJECT")
    here = Path.cwd()
    project = (
        Path(named).resolve()
        if named
        else next((p for p in (here, *here.parents) if (p / "params.yaml").exists()), here)
    )
    home = Path(os.environ.get("STOCK_ASSETS_HOME") or project / ".stock_assets").resolve()
    return Locations(
        project=project,
        home=home,
        arrays_url=os.environ.get("STOCK_ASSETS_ARRAYS_URL") or str(home / "arrays"),
    )
