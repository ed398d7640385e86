"""Walk the whole record: its links and tables, the arrays of datasets, the registered models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Connection, Engine, select

from stock_assets.core.digests import short
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.progress import bar
from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION, ModelVersion
from stock_assets.models.bundle_digests import FILE_TAG
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.record import recording
from stock_assets.storage.record_check import Step, lost_heads, record_steps
from stock_assets.storage.record_faults import Fault, KnownHead
from stock_assets.storage.tables import (
    model_performance_log,
    model_promotions,
    predictions,
    processed_feature_data,
    production_history,
    record_links,
)


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
    """Compare each registered version with its files and the record; find missing ones.

    Versions of every registered model that the record names are compared, so that a change of
    ``tracking.model_name`` leaves none out.
    """
    named = list(_named_versions(connection))
    models = {registry.model_name, *(one.model_name for one in named if one.model_name)}
    registered = {
        (model_name, version.version): version
        for model_name in sorted(models)
        for version in reversed(registry.named(model_name).versions())
    }
    for (model_name, number), model in bar(list(registered.items()), "models"):
        problem = _problem(registry.named(model_name), model)
        if problem is not None:
            yield Fault("models", f"{model}: {problem}", file=f"version {number}")
    missing: set[tuple[int, str | None]] = set()
    for one in dict.fromkeys(named):
        found, message = one.find(registered), None
        key = one.version, one.dataset_run_id
        if not found and key not in missing:
            missing.add(key)
            of = f" of dataset {one.dataset_run_id}" if one.dataset_run_id else ""
            message = (
                f"{one.model_name or registry.model_name} has no version {one.version}{of}, named "
                f"in {one.table}"
            )
        elif found and not any(one.agrees(model) for model in found):
            message = f"{found[0]}: its {one.difference(found[0])}, by {one.table}"
        if message is not None:
            yield Fault("models", message, one.table, file=f"version {one.version}")


def _problem(registry: Registry, model: ModelVersion) -> str | None:
    """Return the problem of a version's files; None if they are as registered."""
    try:
        recipe = registry.load(model.version).recipe
        described = registry.description(model.version)
    except StockAssetsError as error:
        return str(error)
    if recipe.dataset_run_id != model.dataset_run_id or recipe.as_of != model.as_of:
        return (
            f"its bundle is of dataset {recipe.dataset_run_id} as of {recipe.as_of}, "
            f"its tags say {model.dataset_run_id} as of {model.as_of}"
        )
    if described.get("run_id") != model.mlflow_run_id:
        return f"MLflow says run {model.mlflow_run_id}, its MLmodel {described.get('run_id')}"
    metadata = described.get("metadata") or {}  # empty for versions of before they had digests
    tags = registry.tags(model.version)
    for name in sorted({*metadata, *_own(tags)}) if metadata else ():
        if metadata.get(name) != tags.get(name):
            return f"its tag {name} is {tags.get(name)}, in its MLmodel {metadata.get(name)}"
    return None


def _own(tags: Mapping[str, str]) -> list[str]:
    """Return the names of the tags that :func:`stock_assets.models.version_tags.tags_of` sets."""
    fixed = {"dataset_run_id", "as_of_session", "digest", "refit_of"}
    return [name for name in tags if name in fixed or name.startswith(FILE_TAG)]


@dataclass(frozen=True)
class _NamedVersion:
    """A version as a table of the record names it, with the facts that are recorded of it."""

    table: str
    version: int
    model_name: str | None = None
    dataset_run_id: str | None = None
    facts: tuple[tuple[str, Any], ...] = ()

    def find(self, registered: Mapping[tuple[str, int], ModelVersion]) -> list[ModelVersion]:
        """Return the registered versions that may be meant: several models may have its number."""
        return [
            model
            for (model_name, number), model in registered.items()
            if number == self.version
            and self.model_name in (None, model_name)
            and self.dataset_run_id in (None, model.dataset_run_id)
        ]

    def agrees(self, model: ModelVersion) -> bool:
        """Whether a version has the recorded facts."""
        return all(getattr(model, name) == value for name, value in self.facts)

    def difference(self, model: ModelVersion) -> str:
        """Describe the first fact that a version does not have."""
        name, value = next(fact for fact in self.facts if getattr(model, fact[0]) != fact[1])
        return f"{name} is {getattr(model, name)} in MLflow and {value} on record"


def _named_versions(connection: Connection) -> Iterator[_NamedVersion]:
    """Yield the versions that the record names, those with a digest first."""
    yield from _named_in_history(connection)
    yield from _named_in_decisions(connection)
    for table in (predictions, model_performance_log):
        c = table.c
        query = select(c.model_version, c.dataset_run_id, c.mlflow_run_id).distinct()
        for version, dataset, run in connection.execute(query.order_by(c.model_version)):
            if version != PERSISTENCE_VERSION:
                facts = (("mlflow_run_id", run),)
                yield _NamedVersion(table.name, version, None, dataset, facts)


def _named_in_history(connection: Connection) -> Iterator[_NamedVersion]:
    query = select(production_history).where(
        production_history.c.model_version != PERSISTENCE_VERSION
    )
    for row in connection.execute(query.order_by(production_history.c.id)):
        recorded = {
            "digest": row.digest,
            "mlflow_run_id": row.mlflow_run_id,
            "as_of": row.from_session,
        }
        facts = [fact for fact in recorded.items() if fact[1] is not None]
        if row.digest is not None:  # else the change was derived from an earlier promotion
            facts.append(("refit_of", row.refit_of))
        yield _NamedVersion(
            production_history.name,
            row.model_version,
            row.model_name,
            row.dataset_run_id,
            tuple(facts),
        )


def _named_in_decisions(connection: Connection) -> Iterator[_NamedVersion]:
    table = model_promotions.name
    query = select(model_promotions).order_by(model_promotions.c.decided_at)
    for row in connection.execute(query):
        model, dataset = row.model_name, row.dataset_run_id
        facts = (("mlflow_run_id", row.mlflow_run_id), ("refit_of", None))
        yield _NamedVersion(table, row.candidate_version, model, dataset, facts)
        if row.refit_version is not None:
            of_refit = (("refit_of", row.candidate_version),)
            yield _NamedVersion(table, row.refit_version, model, dataset, of_refit)
        if row.production_version is not None:
            yield _NamedVersion(table, row.production_version, model)


def accept_restore(engine: Engine, heads: Sequence[KnownHead], why: str) -> list[KnownHead]:
    """Append a link that accepts the loss of links that runs saw and the record lacks.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    heads : sequence of KnownHead
        The newest links that Dagster's materializations name.
    why : str
        What happened, in words; it is part of the record.

    Returns
    -------
    list of KnownHead
        What was lost. The new link names it.

    Raises
    ------
    StockAssetsError
        Nothing was lost.
    """
    with engine.connect() as connection:
        lost = lost_heads(connection.execute(select(record_links)).all(), heads)
    if not lost:
        raise StockAssetsError(
            "the record has every link that runs saw", "Check it: stock-assets verify"
        )
    with recording(engine, note=why, lost_links=[asdict(head) for head in lost]):
        pass
    return lost
