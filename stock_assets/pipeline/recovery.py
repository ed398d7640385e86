"""Find and recover versions on record that MLflow has lost or that were deleted in it.

Decisions about models are rows of the ``stock_assets`` database, and the registry is MLflow's
database. If that was lost, or restored from an older backup, the installation would look new:
the next candidate would be compared with nothing, under a number that was assigned before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine

from stock_assets.core.digests import short
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.core.text import truncate
from stock_assets.evaluation.production_rule import ModelVersion, newest_change, version_in_force
from stock_assets.models.version_tags import CONTENT_TAG, model_version, tags_of
from stock_assets.pipeline.production import (
    LostRegistryError,
    production_history,
    restore_alias,
)
from stock_assets.registry import (
    Registry,
    may_exist,
)
from stock_assets.storage.database import advisory_lock
from stock_assets.storage.decisions import promotions
from stock_assets.storage.model_files import BUNDLE_PATH, read_version, write_version
from stock_assets.storage.production import (
    ProductionChange,
    highest_version,
    production_changes,
)


@dataclass(frozen=True)
class RecordedVersion:
    """A version that a promotion decision or the history of production names.

    Attributes
    ----------
    version : int
    dataset_run_id : str
    refit_of : int or None
        The candidate of a refit; None for a candidate.
    in_force : bool
        Whether it was put in force, or a decision was to do so.
    digest : str or None
        Digest of its content; None if it was not recorded.
    """

    version: int
    dataset_run_id: str
    refit_of: int | None
    in_force: bool
    digest: str | None = None

    @property
    def key(self) -> tuple[str | None, int]:
        """The dataset and the number, as of a :class:`ModelVersion`."""
        return self.dataset_run_id, self.version


@dataclass(frozen=True)
class FoundModel:
    """A model in the artifacts folder whose files are undamaged, as far as is on record.

    Attributes
    ----------
    folder : Path
        The folder that MLflow registers.
    tags : dict of str to str
        Those of its version.
    mlflow_run_id : str
    created : str
        UTC time of logging, as text in order of time.
    version : int or None
        Its number; None if it is not written beside the files.
    """

    folder: Path
    tags: dict[str, str]
    mlflow_run_id: str
    created: str
    version: int | None


@dataclass(frozen=True)
class Recovery:
    """The result of a recovery: the versions registered again, production, and problems."""

    registered: list[ModelVersion]
    production: ModelVersion | None
    problems: list[str]


def require_known_versions(engine: Engine, registry: Registry) -> None:
    """Fail if versions were put in force that the registry does not know.

    A version that was deleted in MLflow is known: its number is not given again.

    Raises
    ------
    LostRegistryError
        The registry was lost, or is older than the record.
    """
    recorded = _recorded(engine, registry.model_name)
    lost = [one.version for one in _lost(recorded, registry) if one.in_force]
    if lost:
        numbers = ", ".join(truncate([str(version) for version in lost], 5))
        raise LostRegistryError(
            f"versions of {registry.model_name} were put in force that MLflow does not know: "
            f"version {numbers}",
            "Register again what the artifacts hold: stock-assets model recover",
        )


def checked_history(
    engine: Engine, registry: Registry, dagster_run_id: str | None = None
) -> list[ProductionChange]:
    """Return the history of production, if the registry knows every version on it.

    Parameters
    ----------
    engine, registry, dagster_run_id
        As for :func:`stock_assets.pipeline.production.production_history`.

    Raises
    ------
    LostRegistryError
        The registry was lost, or is older than the record.
    """
    require_known_versions(engine, registry)
    return production_history(engine, registry, dagster_run_id)


def skip_given_numbers(engine: Engine, registry: Registry) -> None:
    """Make MLflow assign only numbers that no version on record has, of any registered model.

    A number names one version of an installation: also after ``tracking.model_name`` was changed,
    and after the loss of versions that were never in force.
    """
    with advisory_lock(engine, "versions"):
        for number in range(_next_version(registry), highest_version(engine) + 1):
            _skip_version(registry, number)


def recover(engine: Engine, registry: Registry) -> Recovery:
    """Register versions again that are on record, from the artifacts of this home.

    Each gets its recorded number. The number of a version without undamaged artifacts is registered
    and deleted, so that it is known and not given again. Of the versions that were deleted in
    MLflow, those that were in force are restored, and the candidates of their refits. The alias
    ``Production``, if it is not set, is set to the version that is in force by the history of
    production.

    Raises
    ------
    StockAssetsError
        Versions that were in force are lost, and the artifacts hold none on record.
    """
    recorded = _recorded(engine, registry.model_name)
    lost, deleted = _lost(recorded, registry), _deleted(recorded, registry)
    if not lost and not deleted:
        return Recovery([], registry.production(), [])
    found, problems = find_models(find_locations().artifacts_folder, registry.model_name)
    matched = _as_recorded(lost + deleted, _match(lost + deleted, found), problems)
    if not matched and any(one.in_force for one in lost):
        raise StockAssetsError(
            f"{find_locations().artifacts_folder} holds no undamaged model of "
            f"{registry.model_name} that is on record",
            "Restore the folder from a backup, or change tracking.model_name in params.yaml and "
            "train a new model: stock-assets retrain",
        )
    registered = [
        registry.restore(one.version, model.folder, model.mlflow_run_id)
        for one in deleted
        if (model := matched.get(one.version)) is not None
    ]
    problems += [
        f"version {one.version} was deleted and has no undamaged artifacts; to train it again: "
        f"stock-assets retrain --dataset {one.dataset_run_id}"
        for one in deleted
        if one.version not in matched
    ]
    if registered:
        restore_alias(engine, registry)
    for one in lost:
        if one.version < _next_version(registry):
            problems.append(f"version {one.version}: MLflow gave its number to another model")
            continue
        for number in range(_next_version(registry), one.version):
            _skip_version(registry, number)
        model = matched.get(one.version)
        if model is None:
            problems.append(f"version {one.version}: no undamaged artifacts; recorded as deleted")
            _skip_version(registry, one.version, one.dataset_run_id)
        else:
            refit = {} if one.refit_of is None else {"refit_of": str(one.refit_of)}
            registered.append(_register(registry, model, model.tags | refit))
    production = _restore_alias(engine, registry, problems)
    history = production_changes(engine, registry.model_name)
    newest, before = newest_change(history), newest_change(history[:-1])
    if newest is not None and newest.model is None and before is not None and before.model:
        problems += [
            f"version {model.version} is back, but not in force: "
            f"stock-assets model promote {model.version} --why TEXT"
            for model in registered
            if model.digest == before.model.digest
        ]
    return Recovery(registered, production, problems)


def find_models(artifacts: Path, model_name: str) -> tuple[list[FoundModel], list[str]]:
    """Return the undamaged models in an artifacts folder, oldest first, and the damaged ones.

    Returns
    -------
    list of FoundModel, list of str
        The models, and a message for each model that is damaged or incomplete.
    """
    found, problems = [], []
    for described in sorted(artifacts.glob("models/*/artifacts/MLmodel")):
        try:
            found.append(_read_model(described.parent, model_name))
        except StockAssetsError as error:
            problems.append(error.problem)
        except (yaml.YAMLError, KeyError, TypeError, ValueError):
            problems.append(f"{described} does not describe a model of stock-assets")
    return sorted(found, key=lambda model: model.created), problems


def _read_model(folder: Path, model_name: str) -> FoundModel:
    from stock_assets.models.bundle import Bundle
    from stock_assets.models.bundle_digests import BundleDigests

    described: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    tags = described.get("metadata")
    bundle = Bundle.load(folder / BUNDLE_PATH, BundleDigests.from_tags(tags) if tags else None)
    if not tags:  # logged before the digests were: only its files say what it is
        tags = tags_of(bundle, BundleDigests(bundle.digest(), {}), None)
    return FoundModel(
        folder=folder,
        tags=tags,
        mlflow_run_id=str(described["run_id"]),
        created=str(described["utc_time_created"]),
        version=read_version(folder, model_name),
    )


def _recorded(engine: Engine, model_name: str) -> list[RecordedVersion]:
    """Return the versions that decisions and the history of production name, by number."""
    versions: dict[tuple[str, int], RecordedVersion] = {}
    for record in reversed(promotions(engine, model_name)):
        candidate, refit = record.candidate_version, record.refit_version
        dataset, winner = record.dataset_run_id, record.promoted_version
        promoted = record.promoted and candidate == winner
        versions[dataset, candidate] = RecordedVersion(candidate, dataset, None, promoted)
        if refit is not None:
            versions[dataset, refit] = RecordedVersion(refit, dataset, candidate, record.promoted)
    for change in production_changes(engine, model_name):
        model = change.model
        if model is not None and not model.is_persistence:
            key = model.dataset, model.version
            known = versions.get(key)
            digest = model.digest or (known.digest if known else None)
            versions[key] = RecordedVersion(
                model.version, model.dataset, model.refit_of, True, digest
            )
    return sorted(versions.values(), key=lambda one: one.version)


def _lost(recorded: Sequence[RecordedVersion], registry: Registry) -> list[RecordedVersion]:
    """Return the recorded versions whose number the registry gave to no or another dataset."""
    known = registry.datasets_of_versions() if recorded else {}
    return [one for one in recorded if known.get(one.version) != one.dataset_run_id]


def _deleted(recorded: Sequence[RecordedVersion], registry: Registry) -> list[RecordedVersion]:
    """Return the versions that were in force, and the candidates of refits, that were deleted."""
    known = registry.datasets_of_versions() if recorded else {}
    present = registry.versions() if recorded else []
    keys, digests = {one.key for one in present}, {one.digest for one in present}
    needed = {one.version for one in recorded if one.in_force}
    needed |= {one.refit_of for one in recorded if one.in_force and one.refit_of is not None}
    return [
        one
        for one in recorded
        if known.get(one.version) == one.dataset_run_id
        and one.version in needed
        and one.key not in keys
        and one.digest not in digests
    ]


def _match(lost: Sequence[RecordedVersion], found: Iterable[FoundModel]) -> dict[int, FoundModel]:
    """Find the model of each version: by the number written beside it, else by dataset and order.

    Versions of one dataset are numbered in the order in which they were logged. Models without a
    number are matched only if there is one for each version without one.
    """
    models = {model.version: model for model in found if model.version is not None}
    unnumbered = [model for model in found if model.version is None]
    matched = {
        one.version: models[one.version]
        for one in lost
        if one.version in models
        and models[one.version].tags["dataset_run_id"] == one.dataset_run_id
    }
    for dataset in {one.dataset_run_id for one in lost}:
        left = sorted(
            one.version
            for one in lost
            if one.dataset_run_id == dataset and one.version not in matched
        )
        candidates = [model for model in unnumbered if model.tags["dataset_run_id"] == dataset]
        if len(left) == len(candidates):
            matched |= dict(zip(left, candidates, strict=True))
    return matched


def _as_recorded(
    wanted: Sequence[RecordedVersion], matched: dict[int, FoundModel], problems: list[str]
) -> dict[int, FoundModel]:
    """Leave out models whose digest is not the one in the history of production."""
    recorded = {one.version: one.digest for one in wanted if one.digest is not None}
    kept = {}
    for version, model in matched.items():
        found, expected = model.tags[CONTENT_TAG], recorded.get(version)
        if expected in (None, found):
            kept[version] = model
        else:
            problems.append(
                f"version {version}: the digest of {model.folder} is {short(found)}, not "
                f"{short(str(expected))}"
            )
    return kept


def _next_version(registry: Registry) -> int:
    """Return the number that MLflow gives next."""
    return max(registry.datasets_of_versions(), default=0) + 1


def _register(registry: Registry, model: FoundModel, tags: dict[str, str]) -> ModelVersion:
    """Register a model under the next number."""
    client, name = registry.client(), registry.model_name
    with may_exist():
        client.create_registered_model(name)
    created = client.create_model_version(
        name, source=model.folder.as_uri(), run_id=model.mlflow_run_id, tags=tags
    )
    version = model_version(created)
    write_version(model.folder, name, version.version)
    return version


def _skip_version(registry: Registry, version: int, dataset_id: str | None = None) -> None:
    """Register and delete the next version, so that its number is not given again."""
    client, name = registry.client(), registry.model_name
    with may_exist():
        client.create_registered_model(name)
    tags = {} if dataset_id is None else {"dataset_run_id": dataset_id}
    created = client.create_model_version(name, source="file:///lost", tags=tags)
    client.delete_model_version(name, created.version)
    if int(created.version) != version:
        raise StockAssetsError(
            f"MLflow gave version {created.version} instead of {version}",
            "Another process registers models: run the command again",
        )


def _restore_alias(engine: Engine, registry: Registry, problems: list[str]) -> ModelVersion | None:
    """Set the alias to the version in force; None if that was not recovered."""
    try:
        return version_in_force(production_history(engine, registry))
    except LostRegistryError as lost:
        problems.append(lost.problem)
        return None
