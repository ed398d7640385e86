"""Promotion: decided once per candidate on the same sessions, and the alias follows once."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from sqlalchemy import delete, select

from stock_assets.cli.runs import run_dataset
from stock_assets.config import Rename, Tracking
from stock_assets.defs.promotion.timeline import PRODUCTION_MODEL
from stock_assets.defs.resources import Store
from stock_assets.evaluation.production_rule import (
    Cause,
    ModelVersion,
    model_for,
    version_in_force,
)
from stock_assets.evaluation.promotion_rule import PromotionOutcome
from stock_assets.evaluation.significance import Edge
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.models.baselines import ridge
from stock_assets.models.bundle import Bundle
from stock_assets.pipeline.production import change_production
from stock_assets.registry import PRODUCTION, Registry
from stock_assets.storage.datasets import (
    SegmentRecord,
    load_segments,
    save_panel,
    save_segments,
)
from stock_assets.storage.forecasts import PromotionRecord, promotion_of, promotions
from stock_assets.storage.production import NewChange, production_changes
from stock_assets.storage.record import head
from stock_assets.storage.renames import apply_renames
from stock_assets.storage.serving.production import find_in_force
from stock_assets.storage.tables import model_promotions
from stock_assets_tests.conftest import AS_OF, DATASET, SECOND_DATASET, Loop
from stock_assets_tests.defs.running import failure, materialize, params
from stock_assets_tests.models.bundles import DATASET_ID, bundle, sample_bars
from stock_assets_tests.storage.examples import panel, store_bars
from stock_assets_tests.tampering import tampering

MODEL = Tracking().model_name


@pytest.fixture
def registry(loop: Loop) -> Registry:
    return Registry(loop.platform.params.tracking)


def timeline(loop: Loop) -> list[dict[str, Any]]:
    """What was ever put into production, newest first."""
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
    record = promotion_of(loop.platform.engine, dataset)
    assert record is not None
    return record


def snapshot(loop: Loop, registry: Registry) -> tuple[Any, ...]:
    """All that a decision may have changed."""
    with loop.platform.engine.connect() as connection:
        query = select(model_promotions.c.dataset_run_id, model_promotions.c.decided_at)
        decided = sorted(tuple(row) for row in connection.execute(query))
    datasets = [record.dataset_run_id for record in promotions(loop.platform.engine)]
    versions: list[ModelVersion] = [
        version for name in datasets for version in registry.versions_of(name)
    ]
    return (
        registry.production(),
        versions,
        promotions(loop.platform.engine),
        decided,
        (timeline(loop)),
    )


def test_the_first_model_is_promoted(loop: Loop, registry: Registry) -> None:
    record = record_of(loop, DATASET)
    assert record.promoted
    assert record.production_version is None
    assert record.production is None
    assert record.decision.outcome is PromotionOutcome.FIRST_MODEL
    assert record.candidate_version == registry.candidate(DATASET).version


def test_the_decision_is_about_the_test_segment(loop: Loop) -> None:
    record, test = (
        record_of(loop, DATASET),
        load_segments(loop.platform.engine, DATASET)["test"],
    )
    assert (record.first_session, record.last_session) == (test.first_session, test.last_session)
    assert record.candidate["sessions"] == loop.platform.params.dataset.test_sessions
    assert record.candidate["forecasts"] == record.persistence["forecasts"] == 5 * 30
    assert record.persistence["relative_mae"] == 1.0
    assert record.persistence["coverage"] is None
    assert record.last_session < AS_OF


def test_a_change_of_production_is_an_event_with_its_lineage(
    loop: Loop, registry: Registry
) -> None:
    first, record = timeline(loop)[-1], record_of(loop, DATASET)
    assert first["model_version"] == record.candidate_version
    assert first["dataset_run_id"] == DATASET
    assert first["as_of_session"] == AS_OF.isoformat()
    assert first["mlflow_run_id"] == record.mlflow_run_id
    assert first["digest"] == registry.version(record.candidate_version).digest
    assert first["cause"] == "promotion"
    assert "replaces_version" not in first


def test_the_second_candidate_meets_production_on_the_same_sessions(
    loop: Loop, registry: Registry, second_retraining: str
) -> None:
    first, record = record_of(loop, DATASET), record_of(loop, second_retraining)
    assert record.production_version == first.candidate_version
    assert record.production is not None
    for name in ("forecasts", "sessions"):
        assert record.candidate[name] == record.production[name] == record.persistence[name]
    better = record.candidate["relative_mae"] < record.production["relative_mae"]
    assert record.promoted is better
    outcome = PromotionOutcome.BETTER if better else PromotionOutcome.NOT_BETTER
    assert record.decision.outcome is outcome
    standing = registry.production()
    assert standing is not None
    assert standing.version == (record.candidate_version if better else first.candidate_version)
    assert len(timeline(loop)) == 1 + better


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
        registry.promote(old.version)
        registry.register(candidate, sample_bars())
    edited = params(tracking=tracking.model_dump(), **sections)
    result = materialize(["promotion"], SECOND_DATASET, store, edited, instance=instance)
    assert result.success, failure(result)
    record = promotion_of(store.engine, SECOND_DATASET)
    assert record is not None
    assert record.production_version == old.version
    return record


def test_models_before_and_after_a_rename_are_compared_on_all_tickers(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    rename = Rename(old="FB", new="META", first_session=date(2012, 11, 15))
    tickers = ["AAPL", "GOOG", "IBM", "META", "MSFT"]
    bars = sample_bars()
    bars = tidy(bars.assign(ticker=bars["ticker"].replace({"FB": "META"})))
    store_bars(own_store.engine, bars)
    candidate = bundle(bars=bars, as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    universe: dict[str, object] = {"tickers": tickers, "renames": [rename]}
    record = met(own_store, tmp_path, candidate, date(2012, 8, 31), prices=universe)
    assert record.production is not None
    for scores in (record.candidate, record.production, record.persistence):
        assert scores["forecasts"] == len(tickers) * len(HELD_OUT)


def test_a_comparison_reads_the_prices_that_the_dataset_read(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    """Prices are revised and a ticker is renamed before the comparison is made again."""
    store_bars(own_store.engine, sample_bars())
    newest = head(own_store.engine)
    assert newest is not None
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    learnt_until, known_at = date(2012, 8, 31), newest.written_at
    before = met(own_store, tmp_path / "before", candidate, learnt_until, known_at=known_at)
    with tampering(own_store.engine) as connection:
        connection.execute(delete(model_promotions))
    prices, random = ["open", "high", "low", "close"], np.random.default_rng(3)
    revised = sample_bars().copy()
    revised[prices] *= 1.0 + 0.2 * random.random((len(revised), 1))
    store_bars(own_store.engine, revised)
    rename = Rename(old="FB", new="META", first_session=date(2013, 2, 1))
    apply_renames(own_store.engine, [rename])
    universe = {"tickers": ["AAPL", "GOOG", "IBM", "META", "MSFT"], "renames": [rename]}
    after = met(
        own_store, tmp_path / "after", candidate, learnt_until, known_at=known_at, prices=universe
    )
    # Tickers are in another order, so that sums are rounded otherwise.
    assert after.candidate == pytest.approx(before.candidate, rel=1e-9)
    assert after.production == pytest.approx(before.production, rel=1e-9)


def test_unmatched_forecasts_decide_nothing_and_are_reported(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2, horizon=3)
    with dg.DagsterInstance.ephemeral() as instance:
        record = met(own_store, tmp_path, candidate, date(2012, 8, 31), instance)
        (event,) = instance.fetch_materializations(dg.AssetKey("promotion"), limit=2).records
    assert record.candidate["forecasts"] == 5 * len(HELD_OUT)
    more = 2 * 5 * len(HELD_OUT)
    assert record.decision.unmatched_forecasts == more
    unmatched = event.asset_materialization.metadata["unmatched"].value.records
    recorded = [(row.data["horizon"], row.data["model"]) for row in unmatched]
    assert recorded == [(ahead, name) for ahead in (2, 3) for name in ("candidate", "persistence")]
    assert all(row.data["coverage"] is not None for row in unmatched[::2])
    (run, *_) = mlflow.search_runs(experiment_names=["promotion"], output_format="list")
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id))
    by_ticker = pd.read_csv(folder / "evaluation" / "unmatched_tickers.csv")
    assert by_ticker["forecasts"].sum() == 2 * more
    page = (folder / "evaluation.html").read_text(encoding="utf-8")
    assert "Per horizon, without a counterpart in production" in page


def test_sessions_that_production_was_trained_on_are_left_out(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    """The test segment has been made longer since production was trained."""
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    record = met(own_store, tmp_path, candidate, date(2012, 12, 14))
    newest_label = date(2012, 12, 17)
    assert (record.first_session, record.last_session) == (newest_label, HELD_OUT[-1])
    assert record.production is not None
    for scores in (record.candidate, record.production, record.persistence):
        assert scores["sessions"] == len(HELD_OUT) - HELD_OUT.index(newest_label)


def test_tickers_outside_the_universe_decide_nothing(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    """A ticker that was removed is still stored, and no baseline learns from it."""
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    alone = met(own_store, tmp_path / "alone", candidate, date(2012, 8, 31))
    with tampering(own_store.engine) as connection:
        connection.execute(delete(model_promotions))
    ibm = sample_bars().query("ticker == 'IBM'")
    prices = ["open", "high", "low", "close"]
    wild = 1.0 + 0.2 * np.random.default_rng(3).random(len(ibm))
    stranger = ibm.assign(ticker="GONE", **{name: ibm[name] * wild for name in prices})
    store_bars(own_store.engine, tidy(pd.concat([sample_bars(), stranger])))
    beside = met(own_store, tmp_path / "beside", candidate, date(2012, 8, 31))
    for scores in ("candidate", "production", "persistence"):
        assert getattr(beside, scores) == getattr(alone, scores)


def test_baselines_are_scored_on_the_same_forecasts(loop: Loop) -> None:
    record = record_of(loop, DATASET)
    baselines = record.persistence["baselines"]
    assert set(baselines) == {"reversal", "ridge"}
    for scores in baselines.values():
        for name in ("forecasts", "sessions"):
            assert scores[name] == record.candidate[name]
        assert scores["relative_mae"] > 0.9
        assert 0 <= scores["p_persistence"] <= 1


def test_the_ridge_learns_from_training_and_is_chosen_on_validation(
    loop: Loop, own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[object, ...]] = []

    def listened_to(returns: pd.DataFrame, *asked: object) -> pd.DataFrame:
        given.append(asked)
        return ridge(returns, *asked)

    monkeypatch.setattr("stock_assets.pipeline.promotion.ridge", listened_to)
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    met(own_store, tmp_path, candidate, date(2012, 8, 31))
    train, validation = (
        (segment.first_session, segment.last_session)
        for name, segment in sorted(load_segments(own_store.engine, SECOND_DATASET).items())
        if name != "test"
    )
    assert given == [(train, validation, candidate.recipe.network.window, 1)]


def test_the_candidate_is_tested_against_persistence_and_production(
    loop: Loop, second_retraining: str
) -> None:
    first, second = record_of(loop, DATASET), record_of(loop, second_retraining)
    for record in (first, second):
        assert 0 <= record.candidate["p_persistence"] <= 1
        assert record.candidate["error_difference_se"] > 0
        better = record.candidate["relative_mae"] < 1
        significant = record.candidate["p_persistence"] < 0.05
        assert (record.decision.edge is Edge.BETTER) is (better and significant)
    assert "p_production" not in first.candidate
    assert 0 <= second.candidate["p_production"] <= 1


def test_the_page_of_the_run_holds_tables_and_plots(loop: Loop, registry: Registry) -> None:
    record = record_of(loop, DATASET)
    client = registry.client()
    run = client.get_run(record.mlflow_run_id)
    for name in (
        "test_p_persistence",
        "test_icir",
        "ridge_relative_mae",
        "persistence_error_difference",
    ):
        assert name in run.data.metrics
    folder = Path(client.download_artifacts(record.mlflow_run_id, ""))
    page = (folder / "evaluation.html").read_text(encoding="utf-8")
    assert record.reason.replace("'", "&#x27;") in page
    for text in (
        "All tickers together",
        "Per ticker",
        "added up over sessions",
        "ticker by ticker",
        "Correlation of",
    ):
        assert text in page
    models = pd.read_csv(folder / "evaluation" / "models.csv", index_col="figure")
    assert list(models.columns) == ["candidate", "persistence", "reversal", "ridge"]
    assert float(models.loc["relative_mae", "candidate"]) == pytest.approx(
        record.candidate["relative_mae"]
    )
    tickers = pd.read_csv(folder / "evaluation" / "tickers.csv")
    assert len(tickers) == 4 * 5
    assert len(pd.read_csv(folder / "evaluation" / "sessions.csv")) == record.candidate["sessions"]


def test_the_materialization_shows_tables_plots_and_numbers(loop: Loop) -> None:
    key = dg.AssetKey("promotion")
    found = loop.platform.instance.fetch_materializations(
        dg.AssetRecordsFilter(key, asset_partitions=[DATASET], storage_ids=None), limit=10
    ).records
    shown = found[-1].asset_materialization.metadata
    record = record_of(loop, DATASET)
    figures = {row.data["figure"]: row.data for row in shown["scores"].value.records}
    assert figures["relative_mae"]["persistence"] == 1.0
    assert figures["relative_mae"]["ridge"] == pytest.approx(
        record.persistence["baselines"]["ridge"]["relative_mae"], rel=1e-5
    )
    assert shown["p_persistence"].value == record.candidate["p_persistence"]
    tickers = {
        row.data["ticker"]: row.data
        for row in shown["per_ticker"].value.records
        if row.data["model"] == "candidate"
    }
    assert list(tickers) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert {row.data["model"] for row in shown["per_ticker"].value.records} == {
        *("candidate", "persistence")
    }
    assert tickers["IBM"]["p_persistence"] <= tickers["IBM"]["q_persistence"] <= 1
    assert len(shown["per_session"].value.records) == record.candidate["sessions"]


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
            registry.promote(version)
            edited = params(tracking=tracking.model_dump())
            result = materialize(
                ["promotion"], SECOND_DATASET, own_store, edited, registry, instance
            )
            assert result.success, failure(result)
            standing = registry.production()
            assert standing is not None
            assert standing.version == version
            assert promotion_of(own_store.engine, SECOND_DATASET) == record


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
    assert find_in_force(own_store.engine)["model_version"] is None


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
    assert record_is_promoted(own_store)
    history = production_changes(own_store.engine, tracking.model_name)
    assert registry.production() == version_in_force(history) == newer
    won = history[-1]
    assert won.until_session == newer.as_of
    assert won.model == registry.candidate(SECOND_DATASET)
    assert model_for(date(2013, 1, 31), history) == won.model
    assert model_for(newer.as_of, history) == newer


def record_is_promoted(store: Store) -> bool:
    record = promotion_of(store.engine, SECOND_DATASET)
    return record is not None and record.promoted
