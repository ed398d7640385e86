"""A partition that is run again, and a winner of a past session, leave production as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import mlflow
import pytest
import torch
from rich.console import Console

from stock_assets.cli.runs import run_dataset
from stock_assets.config import Tracking
from stock_assets.defs.promotion.timeline import PRODUCTION_MODEL
from stock_assets.defs.resources import Store
from stock_assets.evaluation.production_rule import Cause, model_for, version_in_force
from stock_assets.pipeline.production import change_production
from stock_assets.registry import PRODUCTION, Registry
from stock_assets.storage.datasets import SegmentRecord, save_panel, save_segments
from stock_assets.storage.decisions import promotion_of
from stock_assets.storage.production import NewChange, production_changes
from stock_assets.storage.serving.production import find_in_force
from stock_assets_tests.conftest import DATASET, SECOND_DATASET, Loop
from stock_assets_tests.defs.promotion.decided import met, snapshot
from stock_assets_tests.defs.running import failure, materialize, params
from stock_assets_tests.models.bundles import bundle, sample_bars
from stock_assets_tests.storage.examples import panel, store_bars


@pytest.mark.parametrize("which", ["first", "second"])
def test_running_the_partition_again_changes_nothing(
    loop: Loop, registry: Registry, second_retraining: str, which: str
) -> None:
    dataset = DATASET if which == "first" else second_retraining
    before = snapshot(loop, registry)
    run_dataset(loop.platform, Console(quiet=True), dataset)
    assert snapshot(loop, registry) == before


def test_a_model_that_was_in_production_is_not_refitted(loop: Loop, registry: Registry) -> None:
    before = snapshot(loop, registry)
    edited = loop.platform.params.model_copy(
        update={"promotion": loop.platform.params.promotion.model_copy(update={"refit": True})}
    )
    result = materialize(
        ["promotion"], DATASET, loop.store, edited, registry, loop.platform.instance
    )
    assert result.success, failure(result)
    assert snapshot(loop, registry) == before


def test_a_rollback_is_not_undone_by_running_the_partition_again(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    store_bars(own_store.engine, sample_bars())
    persistence = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET)
    with torch.no_grad():
        for weights in persistence.network.parameters():
            weights.zero_()
    tracking = Tracking(experiment="promotion", model_name=tmp_path.name)
    registry = Registry(tracking)
    with dg.DagsterInstance.ephemeral() as instance:
        record = met(own_store, tmp_path, persistence, date(2012, 8, 31), instance)
        assert record.promoted, "the model in production is noise"
        for version in (record.candidate_version, record.production_version):
            registry.set_production_alias(version)
            edited = params(tracking=tracking.model_dump())
            result = materialize(
                ["promotion"], SECOND_DATASET, own_store, edited, registry, instance
            )
            assert result.success, failure(result)
            standing = registry.production()
            assert standing is not None
            assert standing.version == version
            assert promotion_of(own_store.engine, registry.model_name, SECOND_DATASET) == record


def test_a_removed_alias_is_not_restored_by_running_the_partition_again(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    tracking = Tracking(experiment="promotion", model_name=tmp_path.name)
    registry, edited = Registry(tracking), params(tracking=tracking.model_dump())
    with dg.DagsterInstance.ephemeral() as instance:
        met(own_store, tmp_path, candidate, date(2012, 8, 31), instance)
        registry.client().delete_registered_model_alias(tracking.model_name, PRODUCTION)
        result = materialize(["promotion"], SECOND_DATASET, own_store, edited, registry, instance)
        assert result.success, failure(result)
        (newest, *_) = instance.fetch_materializations(PRODUCTION_MODEL, limit=9).records
    assert registry.production() is None
    assert newest.asset_materialization.metadata["cause"].value == Cause.FOUND_OUTSIDE
    assert "model_version" not in newest.asset_materialization.metadata
    assert find_in_force(own_store.engine, registry.model_name)["model_version"] is None


def test_a_winner_of_a_past_session_leaves_production_and_forecasts_the_sessions_before(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    """Its champion is an older version than the one in production."""
    store_bars(own_store.engine, sample_bars())
    noiseless = bundle(as_of=date(2012, 12, 31), dataset_id=SECOND_DATASET)
    with torch.no_grad():
        for weights in noiseless.network.parameters():
            weights.zero_()
    tracking = Tracking(experiment="promotion", model_name=tmp_path.name)
    registry = Registry(tracking)
    registry.ensure_experiment()
    mlflow.set_experiment(tracking.experiment)
    with mlflow.start_run():
        newer = registry.register(
            bundle(as_of=date(2013, 2, 15), dataset_id=DATASET), sample_bars()
        )
        registry.register(noiseless, sample_bars())
    promote = NewChange(newer, Cause.PERSON, "newest")
    change_production(own_store.engine, registry, lambda _: promote)
    save_panel(own_store.engine, replace(panel(SECOND_DATASET), as_of_session=date(2012, 12, 31)))
    spans = {
        "train": (date(2011, 8, 1), date(2012, 6, 29)),
        "validation": (date(2012, 8, 1), date(2012, 10, 31)),
        "test": (date(2012, 12, 3), date(2012, 12, 28)),
    }
    save_segments(
        own_store.engine,
        SECOND_DATASET,
        [SegmentRecord(name, *span, 0, 1, 1, "digest") for name, span in spans.items()],
    )
    edited = params(tracking=tracking.model_dump())
    result = materialize(["promotion"], SECOND_DATASET, own_store, edited, registry)
    assert result.success, failure(result)
    record = promotion_of(own_store.engine, registry.model_name, SECOND_DATASET)
    assert record is not None
    assert record.promoted
    history = production_changes(own_store.engine, tracking.model_name)
    assert registry.production() == version_in_force(history) == newer
    won = history[-1]
    assert won.until_session == newer.as_of
    assert won.model == registry.candidate(SECOND_DATASET)
    assert model_for(date(2013, 1, 31), history) == won.model
    assert model_for(newer.as_of, history) == newer
