"""The timeline of ``production_model`` in Dagster: one materialization per change of production."""

from collections.abc import Callable, Sequence
from datetime import datetime

import dagster as dg
from sqlalchemy import Engine

from stock_assets.defs.metadata import head_metadata, plain_metadata
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.registry import PRODUCTION
from stock_assets.storage.database import advisory_lock
from stock_assets.storage.production import ProductionChange

PRODUCTION_MODEL = dg.AssetKey("production_model")
_CHANGED_AT = "in_force_from"
_NEWEST = 100
"""Events that are searched for the newest reported change; there may be other models' between."""


def report_changes(
    instance: dg.DagsterInstance,
    engine: Engine,
    history: Sequence[ProductionChange],
    report: Callable[[dg.AssetMaterialization], None] | None = None,
) -> None:
    """Materialize ``production_model`` for each change that the timeline lacks.

    Changes of installations older than the history were reported when they were made.

    Parameters
    ----------
    instance : DagsterInstance
    engine : Engine
        The ``stock_assets`` database.
    history : sequence of ProductionChange
        The history of production of one model, oldest first.
    report : callable, optional
        Reports an event as part of a run; by default events belong to no run.
    """
    if not _missing(instance, history):
        return
    with advisory_lock(engine, "production_model"):
        for change, before in _missing(instance, history):
            (report or instance.report_runless_asset_event)(_event(engine, change, before))


def _missing(
    instance: dg.DagsterInstance, history: Sequence[ProductionChange]
) -> list[tuple[ProductionChange, ModelVersion | None]]:
    """Return the changes that are not on the timeline, each with the version that it replaced."""
    recorded = [change for change in history if not change.is_migrated]
    if not recorded:
        return []
    reported = _newest_reported(instance, recorded[0].model_name)
    missing: list[tuple[ProductionChange, ModelVersion | None]] = []
    before: ModelVersion | None = None
    for change in history:
        if not change.is_migrated and (reported is None or change.in_force_from > reported):
            missing.append((change, before))
        if change.until_session is None:
            before = change.model
    return missing


def _newest_reported(instance: dg.DagsterInstance, model_name: str) -> datetime | None:
    """Return the time of the newest change of a model on the timeline."""
    records = instance.fetch_materializations(PRODUCTION_MODEL, limit=_NEWEST).records
    for record in records:
        metadata = record.asset_materialization.metadata if record.asset_materialization else {}
        if _CHANGED_AT in metadata and metadata["model"].value == model_name:
            return datetime.fromisoformat(str(metadata[_CHANGED_AT].value))
    return None


def _event(
    engine: Engine, change: ProductionChange, before: ModelVersion | None
) -> dg.AssetMaterialization:
    model = change.model
    version = {}
    if model is not None:
        version = {
            "model_version": model.version,
            "refit_of": model.refit_of,
            "dataset_run_id": model.dataset_run_id,
            "as_of_session": model.as_of,
            "mlflow_run_id": model.mlflow_run_id,
            "digest": model.digest,
        }
    digest = model.digest if model is not None else None
    return dg.AssetMaterialization(
        asset_key=PRODUCTION_MODEL,
        description=change.why,
        metadata=plain_metadata(
            model=change.model_name,
            **version,
            alias=PRODUCTION,
            replaces_version=before.version if before and not change.until_session else None,
            until_session=change.until_session,
            cause=change.cause.value,
            changed_by=change.changed_by,
            **{_CHANGED_AT: change.in_force_from.isoformat()},
            **head_metadata(engine),
        ),
        tags={"dagster/data_version": digest or "none"},
    )
