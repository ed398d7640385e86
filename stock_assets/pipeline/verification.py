"""Walk the whole record: its links and tables, the arrays of datasets, the registered models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath

from sqlalchemy import Connection, Engine, Integer, select

from stock_assets.core.digests import short
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.progress import bar
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record_check import Step, record_steps
from stock_assets.storage.record_faults import Fault, KnownHead
from stock_assets.storage.tables import processed_feature_data, production_history


def find_faults(
    engine: Engine, arrays: ArrayStore, registry: Registry, heads: Sequence[KnownHead]
) -> Iterator[Fault]:
    """Yield every place where the record does not hold, in the order of the walk.

    The database is read as it is at one moment, also while others write; nothing is written.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    arrays : ArrayStore
        The files that datasets name.
    registry : Registry
        The model versions that forecasts, scores and decisions name.
    heads : sequence of KnownHead
        The newest links that Dagster's materializations name.
    """
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        steps = [
            *record_steps(connection, heads),
            Step("arrays", partial(check_arrays, connection, arrays)),
            Step("models", partial(check_models, connection, registry)),
        ]
        for step in bar(steps, "verify"):
            yield from step.find()


def check_arrays(connection: Connection, arrays: ArrayStore) -> Iterator[Fault]:
    """Compare the file of each dataset with its name and with the digest on record."""
    panels = processed_feature_data.c
    query = select(panels.dataset_run_id, panels.location, panels.digest)
    for dataset_id, location, recorded in connection.execute(query.order_by(panels.dataset_run_id)):
        repair = f"restore it, or rebuild it: stock-assets retrain --dataset {dataset_id}"
        try:
            digest = arrays.digest(location)
        except StockAssetsError as error:
            yield Fault("arrays", f"dataset {dataset_id}: {error.problem}; {repair}", file=location)
            continue
        for expected in dict.fromkeys((recorded, PurePosixPath(location).stem)):
            if digest != expected:
                message = (
                    f"dataset {dataset_id}: the SHA-256 of the array file {location} is "
                    f"{short(digest)}, not {short(expected)}; {repair}"
                )
                yield Fault("arrays", message, file=location)
                break


def check_models(connection: Connection, registry: Registry) -> Iterator[Fault]:
    """Load each registered version as its tags describe it; find those that are missing."""
    registered = {model.version: model for model in registry.versions()}
    for model in bar(sorted(registered.values(), key=lambda model: model.version), "models"):
        problem = _problem(registry, model)
        if problem is not None:
            yield Fault("models", f"{model}: {problem}", file=f"version {model.version}")
    yield from _check_in_force(connection, registry, registered)
    for version, tables in sorted(_named_versions(connection).items()):
        if version > 0 and version not in registered:
            message = (
                f"{registry.model_name} has no version {version}, named in {', '.join(tables)}"
            )
            yield Fault("models", message, tables[0], file=f"version {version}")


def _check_in_force(
    connection: Connection, registry: Registry, registered: Mapping[int, ModelVersion]
) -> Iterator[Fault]:
    """Compare the digests of versions that were in force with those of the registry."""
    changes = production_history.c
    query = select(changes.model_version, changes.digest).where(
        changes.model_name == registry.model_name, changes.digest.is_not(None)
    )
    for version, digest in connection.execute(query.distinct()):
        model = registered.get(version)
        if model is not None and model.digest != digest:
            message = (
                f"{model} is registered with digest {short(model.digest or 'none')}; the version "
                f"in force had {short(digest)}"
            )
            yield Fault("models", message, production_history.name, file=f"version {version}")


def _problem(registry: Registry, model: ModelVersion) -> str | None:
    """Return the problem of a version's files; None if they are as registered."""
    try:
        bundle = registry.load(model.version)
    except StockAssetsError as error:
        return str(error)
    if bundle.recipe.dataset_run_id != model.dataset_run_id or bundle.recipe.as_of != model.as_of:
        return (
            f"its bundle is of dataset {bundle.recipe.dataset_run_id} as of {bundle.recipe.as_of}, "
            f"its tags say {model.dataset_run_id} as of {model.as_of}"
        )
    return None


def _named_versions(connection: Connection) -> dict[int, list[str]]:
    """Return the tables that name each model version, by its number."""
    named: dict[int, list[str]] = {}
    for table in HISTORIES:
        versions = [
            column
            for column in table.c
            if column.name.endswith("version") and isinstance(column.type, Integer)
        ]
        for column in versions:
            for version in connection.scalars(select(column).distinct()):
                if version is not None and table.name not in named.setdefault(version, []):
                    named[version].append(table.name)
    return named
