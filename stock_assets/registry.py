"""MLflow: the experiment, the runs of a retraining, registered versions and the alias."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stock_assets.config import Rename, Tracking, Training
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.evaluation.champion import ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from stock_assets.models.bundle import Bundle

PRODUCTION = "Production"
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
TRAINING_PREFIX = "training."
"""Of the MLflow parameters that are settings of a training."""

_BUNDLE = "bundle"
_MOST_VERSIONS = 10_000


@dataclass(frozen=True)
class Schedule:
    """How a candidate came to its weights.

    Attributes
    ----------
    training : Training
        The settings that were not tuned, its seed among them.
    batch_size : int
        Windows per step.
    learning_rates : tuple of float
        Of each epoch up to the best.
    """

    training: Training
    batch_size: int
    learning_rates: tuple[float, ...]


class Registry:
    """The registered model of this installation.

    Parameters
    ----------
    tracking : Tracking
        Names of the experiment and of the registered model.
    renames : sequence of Rename
        Tickers that have another name since a session: models from before are loaded with it.
    """

    def __init__(self, tracking: Tracking, renames: Sequence[Rename] = ()) -> None:
        self._tracking = tracking
        self._renames = renames

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return self._tracking.model_name

    def client(self) -> MlflowClient:
        """Client of the tracking store that the environment names."""
        import mlflow

        uri = os.environ.get(TRACKING_VARIABLE)
        if not uri:
            raise StockAssetsError(
                f"no MLflow store is named by {TRACKING_VARIABLE}",
                'Run eval "$(stock-assets env)" first',
            )
        mlflow.set_tracking_uri(uri)
        return mlflow.MlflowClient()

    def ensure_experiment(self) -> None:
        """Create the experiment, with its artifacts under the data folder, unless it exists."""
        from mlflow.exceptions import MlflowException

        client, name = self.client(), self._tracking.experiment
        if client.get_experiment_by_name(name) is not None:
            return
        artifacts = find_locations().artifacts_folder
        try:
            client.create_experiment(name, artifact_location=artifacts.as_uri())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was first
                raise

    def register(
        self, bundle: Bundle, folder: Path, example: Any, refit_of: int | None = None
    ) -> ModelVersion:
        """Log a bundle as a pyfunc model in the active MLflow run and register it.

        If the newest version for the same dataset has the same content, it is given back instead of
        a second one. An older one is not: the newest is what a promotion is about.

        Parameters
        ----------
        bundle : Bundle
            The model.
        folder : Path
            A scratch folder to lay the bundle out in.
        example : DataFrame
            Bars up to the as-of session of the bundle, whose columns the signature takes.
        refit_of : int, optional
            The candidate that the bundle is a refit of.
        """
        of_its_kind = (
            model
            for model in self.versions_of(bundle.recipe.dataset_run_id)
            if model.refit_of == refit_of
        )
        newest = next(of_its_kind, None)
        if newest is not None and newest.digest == bundle.digest():
            return newest
        import mlflow
        from mlflow.types import ParamSchema, ParamSpec

        client, as_of = self.client(), bundle.recipe.as_of
        laid_out = folder / _BUNDLE
        bundle.save(laid_out)
        package = Path(__file__).parent
        forecasts = bundle.forecast(example, [as_of]).astype({"horizon": float})
        signature = mlflow.models.infer_signature(example.head(), forecasts)
        signature.params = ParamSchema([ParamSpec("sessions", "string", [], shape=(-1,))])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "An input example was not provided|.*input_example")
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(package / "models" / "pyfunc_model.py"),
                artifacts={_BUNDLE: str(laid_out)},
                code_paths=[str(package)],
                pip_requirements=_requirements(),
                signature=signature,
            )
        self._ensure_model()
        created = client.create_model_version(
            self.model_name,
            source=info.model_uri,
            run_id=info.run_id,
            model_id=info.model_id,
            tags={
                "dataset_run_id": bundle.recipe.dataset_run_id,
                "as_of_session": as_of.isoformat(),
                "digest": bundle.digest(),
            }
            | ({} if refit_of is None else {"refit_of": str(refit_of)}),
        )
        return _described(created)

    def _ensure_model(self) -> None:
        """Create the registered model unless it exists."""
        from mlflow.exceptions import MlflowException

        try:
            self.client().create_registered_model(self.model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def version(self, version: int) -> ModelVersion:
        """Look a version up by number."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client().get_model_version(self.model_name, str(version))
        except MlflowException:
            raise StockAssetsError(
                f"{self.model_name} has no version {version}",
                "List the versions: stock-assets status",
            ) from None
        return _described(found)

    def production(self) -> ModelVersion | None:
        """Give the version that carries the alias ``Production``, or None when none does."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client().get_model_version_by_alias(self.model_name, PRODUCTION)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return _described(found)

    def versions(self) -> list[ModelVersion]:
        """Give every version of the registered model, newest first."""
        return self._found(f"name = '{self.model_name}'")

    def versions_of(self, dataset_id: str) -> list[ModelVersion]:
        """Give the versions trained on a dataset, candidates and refits, newest first."""
        return self._found(f"name = '{self.model_name}' AND tag.dataset_run_id = '{dataset_id}'")

    def _found(self, condition: str) -> list[ModelVersion]:
        found = self.client().search_model_versions(condition, max_results=_MOST_VERSIONS)
        return sorted(map(_described, found), key=lambda model: -model.version)

    def candidate(self, dataset_id: str) -> ModelVersion:
        """Give the newest version trained on a dataset that is no refit.

        Raises
        ------
        StockAssetsError
            None was registered.
        """
        found = [model for model in self.versions_of(dataset_id) if model.refit_of is None]
        if not found:
            raise StockAssetsError(
                f"dataset {dataset_id} has no registered candidate",
                "Materialize its candidate_model first",
            )
        return found[0]

    def refit(self, candidate: ModelVersion) -> ModelVersion | None:
        """Give the newest refit of a candidate, or None when there is none."""
        known = self.versions_of(candidate.dataset_run_id)
        return next((model for model in known if model.refit_of == candidate.version), None)

    def evaluation_version(self, model: ModelVersion) -> ModelVersion:
        """Give the version that stands for a model where models are compared.

        Sessions that a later candidate is held out on may be among those that a refit was trained
        on. The version that it is a refit of was not trained on them, and stands for it.
        """
        return model if model.refit_of is None else self.version(model.refit_of)

    def promote(self, version: int) -> None:
        """Move the alias ``Production`` to a version."""
        self.client().set_registered_model_alias(self.model_name, PRODUCTION, str(version))

    def schedule(self, candidate: ModelVersion) -> Schedule:
        """Read from the MLflow run of a candidate how it came to its weights.

        Raises
        ------
        StockAssetsError
            The run does not say how: it is of an earlier version of this package.
        """
        client, run_id = self.client(), candidate.mlflow_run_id
        logged = client.get_run(run_id).data
        rates = {
            point.step: point.value for point in client.get_metric_history(run_id, "learning_rate")
        }
        settings = {
            name.removeprefix(TRAINING_PREFIX): value
            for name, value in logged.params.items()
            if name.startswith(TRAINING_PREFIX)
        }
        if settings.keys() != Training.model_fields.keys() or "best_epoch" not in logged.metrics:
            raise StockAssetsError(
                f"the MLflow run of {candidate} does not say how it was trained",
                "Train a new candidate, or set promotion.refit to false",
            )
        epochs = range(1, int(logged.metrics["best_epoch"]) + 1)
        return Schedule(
            Training.model_validate(settings),
            int(logged.params["batch_size"]),
            tuple(rates[epoch] for epoch in epochs),
        )

    def training_history(self, mlflow_run_id: str) -> list[dict[str, float]]:
        """Give the losses of every epoch that an MLflow run logged."""
        client = self.client()
        losses = {
            name: {
                point.step: point.value for point in client.get_metric_history(mlflow_run_id, name)
            }
            for name in ("train_loss", "validation_loss")
        }
        return [
            {"epoch": epoch} | {name: points[epoch] for name, points in losses.items()}
            for epoch in sorted(losses["train_loss"])
        ]

    def load(self, version: int) -> Bundle:
        """Load the bundle of a version, its tickers called as they are now."""
        import mlflow

        from stock_assets.models.bundle import Bundle

        self.client()
        folder = mlflow.artifacts.download_artifacts(f"models:/{self.model_name}/{version}")
        stored = Bundle.load(Path(folder) / "artifacts" / _BUNDLE)
        return Bundle(stored.recipe.rename_tickers(self._renames), stored.network)


def _described(found: Any) -> ModelVersion:
    """Read the tags that :meth:`Registry.register` sets."""
    refit_of = found.tags.get("refit_of")
    try:
        return ModelVersion(
            version=int(found.version),
            mlflow_run_id=str(found.run_id),
            dataset_run_id=found.tags["dataset_run_id"],
            as_of=date.fromisoformat(found.tags["as_of_session"]),
            digest=found.tags["digest"],
            refit_of=None if refit_of is None else int(refit_of),
        )
    except KeyError as missing:
        raise StockAssetsError(
            f"version {found.version} of {found.name} has no tag {missing}",
            "Point the alias Production at a version that stock-assets registered",
        ) from None


def _requirements() -> list[str]:
    """Exact versions of what a bundle needs besides the code logged with it."""
    from importlib.metadata import version

    names = (
        "TA-Lib",
        "numpy",
        "pandas",
        "pydantic",
        "pyyaml",
        "safetensors",
        "torch",
        "tqdm",
    )
    return [f"{name}=={version(name)}" for name in names]
