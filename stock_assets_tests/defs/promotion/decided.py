"""Decisions of the loop, and decisions about candidates of a test."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
from sqlalchemy import select

from stock_assets.config import Tracking
from stock_assets.defs.resources import Store
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.registry import Registry
from stock_assets.storage.datasets import SegmentRecord, save_panel, save_segments
from stock_assets.storage.decisions import PromotionRecord, promotion_of, promotions
from stock_assets.storage.production import production_changes
from stock_assets.storage.tables import model_promotions
from stock_assets_tests.conftest import SECOND_DATASET, Loop
from stock_assets_tests.defs.running import failure, materialize, params
from stock_assets_tests.models.bundles import DATASET_ID, bundle, sample_bars
from stock_assets_tests.storage.examples import panel

MODEL = Tracking().model_name


def timeline(loop: Loop) -> list[dict[str, Any]]:
    """Every version put into production, newest first."""
    key = dg.AssetKey("production_model")
    found = loop.platform.instance.fetch_materializations(key, limit=100).records
    events = [
        {name: value.value for name, value in record.asset_materialization.metadata.items()}
        for record in found
    ]
    # Other tests report changes of their own databases on this instance.
    own = {one.in_force_from.isoformat() for one in production_changes(loop.platform.engine, MODEL)}
    return [event for event in events if event["in_force_from"] in own]


def record_of(loop: Loop, dataset: str) -> PromotionRecord:
    record = promotion_of(loop.platform.engine, MODEL, dataset)
    assert record is not None
    return record


def snapshot(loop: Loop, registry: Registry) -> tuple[Any, ...]:
    """Everything that a decision may change."""
    with loop.platform.engine.connect() as connection:
        query = select(model_promotions.c.dataset_run_id, model_promotions.c.decided_at)
        decided = sorted(tuple(row) for row in connection.execute(query))
    datasets = [record.dataset_run_id for record in promotions(loop.platform.engine, MODEL)]
    versions: list[ModelVersion] = [
        version for name in datasets for version in registry.versions_of(name)
    ]
    return (
        registry.production(),
        versions,
        promotions(loop.platform.engine, MODEL),
        decided,
        (timeline(loop)),
    )


HELD_OUT = calendar.sessions(date(2012, 12, 3), date(2013, 1, 15))


def met(
    store: Store,
    folder: Path,
    candidate: Bundle,
    learnt_until: date,
    instance: dg.DagsterInstance | None = None,
    known_at: datetime | None = None,
    **sections: dict[str, object],
) -> PromotionRecord:
    """The decision about a candidate that meets a production model on `HELD_OUT`.

    The validation segment of the production model ended in `learnt_until`.
    """
    as_of, tracking = (
        candidate.recipe.as_of,
        Tracking(experiment="promotion", model_name=folder.name),
    )
    spans = {
        "train": (date(2011, 8, 1), date(2012, 6, 29)),
        "validation": (date(2012, 8, 1), date(2012, 10, 31)),
        "test": (HELD_OUT[0], HELD_OUT[-1]),
    }
    earlier = {**spans, "validation": (date(2012, 8, 1), learnt_until)}
    for dataset, own in ((DATASET_ID, earlier), (SECOND_DATASET, spans)):
        built = replace(panel(dataset), as_of_session=as_of, known_at=known_at)
        save_panel(store.engine, built)
        save_segments(
            store.engine,
            dataset,
            [SegmentRecord(name, *span, 0, 1, 1, "digest") for name, span in own.items()],
        )
    registry = Registry(tracking)
    registry.ensure_experiment()
    mlflow.set_experiment(tracking.experiment)
    with mlflow.start_run():
        old = registry.register(bundle(), sample_bars())
        registry.set_production_alias(old.version)
        registry.register(candidate, sample_bars())
    edited = params(tracking=tracking.model_dump(), **sections)
    result = materialize(["promotion"], SECOND_DATASET, store, edited, instance=instance)
    assert result.success, failure(result)
    record = promotion_of(store.engine, registry.model_name, SECOND_DATASET)
    assert record is not None
    assert record.production_version == old.version
    return record
