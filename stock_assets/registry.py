"""The model registry in MLflow: versions, and the alias of production.

The registry says which folder holds the files of a version; they are read from the artifacts of
this home, and only as the version's tags describe them.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stock_assets.config import Rename, Tracking
from stock_assets.core.digests import DamagedFileError
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.models.version_tags import is_own, model_version, tags_of
from stock_assets.storage.mlflow_database import (
    adopt_artifacts,
    datasets_of_versions,
    restore_version,
)
from stock_assets.storage.model_files import (
    BUNDLE_PATH,
    folder_in,
    read_description,
    write_version,
)

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from stock_assets.models.bundle import Bundle

PRODUCTION = "Production"
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"

_log = logging.getLogger(__name__)
_BUNDLE = "bundle"
_MARK = "production_change"
_MAXIMUM_VERSIONS = 10_000


class Registry:
    """The registered model of this installation.

    Parameters
    ----------
    tracking : Tracking
        Names of the experiment and the registered model.
    renames : sequence of Rename
        Ticker renames, applied to earlier models when they are loaded.
    """

    def __init__(self, tracking: Tracking, renames: Sequence[Rename] = ()) -> None:
        self._tracking = tracking
        self._renames = renames

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return self._tracking.model_name

    def named(self, model_name: str) -> Registry:
        """Return the registry of another registered model, such as one of an earlier name."""
        return Registry(self._tracking.model_copy(update={"model_name": model_name}), self._renames)

    def client(self) -> MlflowClient:
        """Return a client of the configured tracking store.

        Raises
        ------
        StockAssetsError
            The environment configures none.
        """
        import mlflow

        mlflow.set_tracking_uri(_tracking_uri())
        return mlflow.MlflowClient()

    def ensure_experiment(self) -> None:
        """Create the experiment unless it exists; its artifacts are in this home."""
        client, name = self.client(), self._tracking.experiment
        artifacts = find_locations().artifacts_folder
        adopt_artifacts(_tracking_uri(), artifacts, name)
        if client.get_experiment_by_name(name) is None:
            with may_exist():
                client.create_experiment(name, artifact_location=artifacts.as_uri())

    def register(
        self, bundle: Bundle, example: pd.DataFrame, refit_of: int | None = None
    ) -> ModelVersion:
        """Log a bundle as a pyfunc model in the active MLflow run and register it.

        If the newest version of the same dataset and kind has the same content, return that, its
        files repaired if they were damaged. An older version is not reused, because a promotion
        decides on the newest.

        Parameters
        ----------
        bundle : Bundle
        example : DataFrame
            Bars up to the as-of session of the bundle, for the model signature.
        refit_of : int, optional
            Version of the candidate, if the bundle is its refit.
        """
        earlier = self.versions_of(bundle.recipe.dataset_run_id)
        newest = next((model for model in earlier if model.refit_of == refit_of), None)
        if newest is not None and newest.digest == bundle.digest():
            self._repair(newest, bundle)
            return newest
        import mlflow
        from mlflow.types import ParamSchema, ParamSpec

        client, as_of = self.client(), bundle.recipe.as_of
        package = Path(__file__).parent
        forecasts = bundle.forecast(example, [as_of]).astype({"horizon": float})
        signature = mlflow.models.infer_signature(example.head(), forecasts)
        signature.params = ParamSchema([ParamSpec("sessions", "string", [], shape=(-1,))])
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.filterwarnings("ignore", "An input example was not provided|.*input_example")
            saved = Path(folder) / _BUNDLE
            tags = tags_of(bundle, bundle.save(saved), refit_of)
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(package / "models" / "pyfunc_model.py"),
                artifacts={_BUNDLE: str(saved)},
                code_paths=[str(package)],
                pip_requirements=_requirements(),
                signature=signature,
                metadata=tags,
            )
        with may_exist():
            client.create_registered_model(self.model_name)
        created = client.create_model_version(
            self.model_name,
            source=info.model_uri,
            run_id=info.run_id,
            model_id=info.model_id,
            tags=tags,
        )
        version = model_version(created)
        write_version(self._folder(version.version), self.model_name, version.version)
        return version

    def _repair(self, model: ModelVersion, bundle: Bundle) -> None:
        """Write the files of a version again from its content if they are missing or damaged."""
        try:
            self.load(model.version)
        except DamagedFileError as damaged:
            bundle.save(self._folder(model.version) / BUNDLE_PATH)
            self.load(model.version)
            _log.warning("%s; wrote it again from an equal training", damaged.problem)

    def version(self, version: int) -> ModelVersion:
        """Return a version by number.

        Raises
        ------
        StockAssetsError
            It does not exist.
        """
        return model_version(self._registered(version))

    def _registered(self, version: int) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client().get_model_version(self.model_name, str(version))
        except MlflowException:
            raise StockAssetsError(
                f"{self.model_name} has no version {version}",
                "List the versions: stock-assets model list",
            ) from None

    def production(self) -> ModelVersion | None:
        """Return the version with the alias ``Production`` if it is one of ours, or None."""
        found = self._with_alias()
        return model_version(found) if found is not None and is_own(found) else None

    def foreign_production(self) -> int | None:
        """Return the number of a version with the alias that was registered in another way."""
        found = self._with_alias()
        return None if found is None or is_own(found) else int(found.version)

    def _with_alias(self) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client().get_model_version_by_alias(self.model_name, PRODUCTION)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def find(self, model: ModelVersion) -> ModelVersion | None:
        """Return the version with the dataset, the kind and the digest of a model, or None.

        Its number may be another one, after a registry was rebuilt. Of equal ones it is the one
        with the model's number, else the newest. If the digest of the model is unknown, only its
        number counts.
        """
        equal = [
            version
            for version in self.versions_of(model.dataset)
            if (version.refit_of is None) == (model.refit_of is None)
            and (version.is_same(model) if model.digest is None else version.digest == model.digest)
        ]
        return next(
            (version for version in equal if version.is_same(model)), next(iter(equal), None)
        )

    def versions(self) -> list[ModelVersion]:
        """Return the versions that :meth:`register` registered, newest first."""
        return self._search(f"name = '{self.model_name}'")

    def foreign_versions(self) -> list[int]:
        """Return the numbers of versions that were registered in another way, newest first."""
        found = self._found(f"name = '{self.model_name}'")
        return sorted((int(one.version) for one in found if not is_own(one)), reverse=True)

    def versions_of(self, dataset_id: str) -> list[ModelVersion]:
        """Return the candidates and refits of a dataset, newest first."""
        return self._search(f"name = '{self.model_name}' AND tag.dataset_run_id = '{dataset_id}'")

    def _search(self, condition: str) -> list[ModelVersion]:
        own = [model_version(one) for one in self._found(condition) if is_own(one)]
        return sorted(own, key=lambda model: -model.version)

    def _found(self, condition: str) -> Sequence[Any]:
        return self.client().search_model_versions(condition, max_results=_MAXIMUM_VERSIONS)

    def candidate(self, dataset_id: str) -> ModelVersion:
        """Return the newest candidate of a dataset.

        Raises
        ------
        StockAssetsError
            There is none.
        """
        for model in self.versions_of(dataset_id):
            if model.refit_of is None:
                return model
        raise StockAssetsError(
            f"dataset {dataset_id} has no registered candidate",
            "Materialize its candidate_model first",
        )

    def refit(self, candidate: ModelVersion) -> ModelVersion | None:
        """Return the newest refit of a candidate, or None."""
        versions = self.versions_of(candidate.dataset)
        return next((model for model in versions if model.refit_of == candidate.version), None)

    def evaluation_version(self, model: ModelVersion) -> ModelVersion:
        """Return the version to compare a model by: the candidate of a refit, or the model itself.

        A refit may have been trained on the held-out sessions of a later candidate. Its candidate
        was not.

        Raises
        ------
        StockAssetsError
            The candidate was deleted in MLflow, or never existed.
        """
        if model.refit_of is None:
            return model
        try:
            return self.version(model.refit_of)
        except StockAssetsError:
            if self.datasets_of_versions().get(model.refit_of) != model.dataset_run_id:
                raise
            raise StockAssetsError(
                f"version {model.refit_of}, the candidate of {model}, was deleted in MLflow",
                "Restore it: stock-assets model recover",
            ) from None

    def set_production_alias(self, version: int) -> None:
        """Move the alias ``Production``: for :mod:`stock_assets.pipeline.production` alone."""
        self.client().set_registered_model_alias(self.model_name, PRODUCTION, str(version))

    def remove_production_alias(self) -> None:
        """Remove the alias ``Production``: for :mod:`stock_assets.pipeline.production` alone."""
        if self._with_alias() is not None:
            self.client().delete_registered_model_alias(self.model_name, PRODUCTION)

    def production_mark(self) -> str | None:
        """Return the mark of the last change that the alias was set for, or None."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client().get_registered_model(self.model_name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        mark: str | None = found.tags.get(_MARK)
        return mark

    def mark_production(self, mark: str) -> None:
        """Set the mark of the change that the alias was set for."""
        self.client().set_registered_model_tag(self.model_name, _MARK, mark)

    def load(self, version: int) -> Bundle:
        """Load the bundle of a version, with current ticker symbols.

        Raises
        ------
        DamagedFileError
            A file of it is missing in this home, or is not the registered one.
        """
        from stock_assets.models.bundle import Bundle
        from stock_assets.models.bundle_digests import BundleDigests

        found = self._registered(version)
        dataset = model_version(found).dataset_run_id
        recorded = BundleDigests.from_tags(found.tags)
        try:
            stored = Bundle.load(self._folder(version) / BUNDLE_PATH, recorded)
        except DamagedFileError as damaged:
            raise DamagedFileError(
                damaged.problem,
                f"Repeat its training: stock-assets retrain --dataset {dataset}; if it is in "
                "force, go back to the newest undamaged version: stock-assets model rollback",
            ) from None
        return Bundle(stored.recipe.rename_tickers(self._renames), stored.network)

    def is_intact(self, version: int) -> bool:
        """Whether the files of a version are there and undamaged."""
        try:
            self.load(version)
        except DamagedFileError:
            return False
        return True

    def _folder(self, version: int) -> Path:
        """Return the folder of a version's files in this home, also after a move."""
        import mlflow

        address = self.client().get_model_version_download_uri(self.model_name, str(version))
        own = folder_in(find_locations().artifacts_folder, address)
        return Path(mlflow.artifacts.download_artifacts(address)) if own is None else own

    def tags(self, version: int) -> dict[str, str]:
        """Return the tags of a version."""
        return dict(self._registered(version).tags)

    def description(self, version: int) -> dict[str, Any]:
        """Read the ``MLmodel`` file of a version.

        Raises
        ------
        DamagedFileError
            It is missing or unreadable.
        """
        return read_description(self._folder(version))

    def datasets_of_versions(self) -> dict[int, str | None]:
        """Return the dataset of each assigned version number, deleted versions included."""
        return datasets_of_versions(_tracking_uri(), self.model_name)

    def restore(self, version: int, folder: Path, mlflow_run_id: str) -> ModelVersion:
        """Undo the deletion of a version, whose files are in a folder of this home."""
        source = folder.as_uri()
        restore_version(_tracking_uri(), self.model_name, version, source, mlflow_run_id)
        return self.version(version)


def _tracking_uri() -> str:
    uri = os.environ.get(TRACKING_VARIABLE)
    if not uri:
        raise StockAssetsError(
            f"{TRACKING_VARIABLE} is not set", 'Run eval "$(stock-assets env)" first'
        )
    return uri


@contextmanager
def may_exist() -> Iterator[None]:
    """Ignore the error of MLflow that a resource already exists."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _requirements() -> list[str]:
    """Return the pinned requirements of a bundle and the code logged with it."""
    from importlib.metadata import version

    names = "TA-Lib", "numpy", "pandas", "pydantic", "pyyaml", "safetensors", "torch", "tqdm"
    return [f"{name}=={version(name)}" for name in names]
