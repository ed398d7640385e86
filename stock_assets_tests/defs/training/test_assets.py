"""Training: the study and the candidate are on record, and MLflow ends as Dagster did."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from stock_assets.config import WalkForward
from stock_assets.core.digests import DamagedFileError
from stock_assets.features.dataset import build_feature_set
from stock_assets.features.scaling import Scaler
from stock_assets.features.splits import Segment, split_validation
from stock_assets.models.candidate import train_candidate
from stock_assets.models.data import load_training_data
from stock_assets.models.intervals import ScaledIntervals
from stock_assets.models.training import weights_digest
from stock_assets.models.tuning import Hyperparameters
from stock_assets.pipeline.training import plain_records
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import (
    load_panel,
    load_scalers,
    load_segments,
    load_tuning,
    save_panel,
)
from stock_assets.storage.model_files import BUNDLE_PATH
from stock_assets.storage.prices import read_bars
from stock_assets.storage.tables import optimization_results
from stock_assets_tests.conftest import AS_OF, DATASET, Loop
from stock_assets_tests.defs.running import data_version, failure, materialize, metadata
from stock_assets_tests.features.examples import same_bits


@pytest.fixture
def registry(loop: Loop) -> Registry:
    return Registry(loop.platform.params.tracking)


@pytest.fixture
def run(registry: Registry) -> mlflow.entities.Run:
    """The MLflow run of the loop's retraining."""
    return registry.client().get_run(registry.candidate(DATASET).mlflow_run_id)


def test_the_whole_study_is_stored_with_its_best(loop: Loop) -> None:
    query = select(optimization_results).where(optimization_results.c.dataset_run_id == DATASET)
    with loop.platform.engine.connect() as connection:
        row = connection.execute(query).mappings().one()
    assert len(row["trials"]) == loop.platform.params.tuning.trials
    complete = [trial for trial in row["trials"] if trial["state"] == "COMPLETE"]
    best = min(complete, key=lambda trial: trial["value"])
    assert row["best_value"] == best["value"]
    assert row["best_params"] == {
        name.removeprefix("params_"): value
        for name, value in best.items()
        if name.startswith("params_")
    }


def test_diverged_trials_are_stored_as_json_null() -> None:
    trials = pd.DataFrame({"number": [0, 1, 2], "value": [0.5, np.inf, np.nan]})
    recorded = json.loads(json.dumps(plain_records(trials), allow_nan=False))
    assert [trial["value"] for trial in recorded] == [0.5, None, None]


def test_the_candidate_is_registered_with_what_it_needs(loop: Loop, registry: Registry) -> None:
    version = registry.candidate(DATASET)
    assert (version.dataset_run_id, version.as_of) == (DATASET, AS_OF)
    bundle = registry.load(version.version)
    record, best = (
        load_panel(loop.platform.engine, DATASET),
        load_tuning(loop.platform.engine, DATASET),
    )
    assert bundle.digest() == version.digest
    assert bundle.recipe.dataset_run_id == DATASET
    assert list(bundle.recipe.features) == record.features
    assert list(bundle.recipe.tickers) == record.tickers
    assert bundle.recipe.network.hidden_size == best["hidden_size"]
    intervals = bundle.recipe.intervals
    assert isinstance(intervals, ScaledIntervals)
    assert list(intervals.coverages) == loop.platform.params.forecast.coverages
    seen = load_segments(loop.platform.engine, DATASET)["train"].last_position + 1
    panel = bundle.panel(read_bars(loop.platform.engine, record.first_session, AS_OF), AS_OF)
    assert bundle.recipe.reference.rows == panel.valid[:seen].sum()
    third = loop.platform.params.dataset.validation_sessions // 3
    assert intervals.residuals.shape == (third, 1, len(record.tickers))
    assert np.isfinite(intervals.residuals).mean() > 0.9
    (factor,) = bundle.recipe.shrinkage
    assert factor == 1.0


@pytest.mark.parametrize("day", [date(2011, 7, 1), date(2012, 8, 15), AS_OF])
def test_the_model_serves_the_panel_that_it_was_trained_on(
    loop: Loop, registry: Registry, day: date
) -> None:
    record = load_panel(loop.platform.engine, DATASET)
    stored = loop.store.arrays.read_tensors(record.location)
    bars = read_bars(loop.platform.engine, date(2000, 3, 1), day)
    served = registry.load(registry.candidate(DATASET).version).panel(bars, day)
    stop = len(served.sessions)
    assert same_bits(served.values, stored["values"][:stop].copy())
    assert same_bits(served.close, stored["close"][:stop].copy())
    params = loop.platform.params
    bars = read_bars(loop.platform.engine, date(2000, 3, 1), AS_OF)
    again = build_feature_set(
        bars, params.features, params.dataset, params.prices.first_session, AS_OF
    )
    assert same_bits(again.panel.values, stored["values"])


def test_the_mlflow_run_holds_losses_and_parameters(
    loop: Loop, registry: Registry, run: mlflow.entities.Run
) -> None:
    assert run.info.status == "FINISHED"
    assert run.data.params["dataset_run_id"] == run.data.tags["dataset_run_id"] == DATASET
    assert run.data.params["as_of_session"] == AS_OF.isoformat()
    history = registry.client().get_metric_history(run.info.run_id, "validation_loss")
    assert [point.step for point in history] == [1, 2]
    assert {"train_loss", "learning_rate", "best_epoch", "test_relative_mae"} <= set(
        run.data.metrics
    )
    names = {found.path for found in registry.client().list_artifacts(run.info.run_id)}
    assert {"training.html", "evaluation.html"} <= names


def test_each_trial_is_a_nested_mlflow_run(
    loop: Loop, registry: Registry, run: mlflow.entities.Run
) -> None:
    trials = registry.client().search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )
    assert len(trials) == loop.platform.params.tuning.trials
    best = load_tuning(loop.platform.engine, DATASET)
    complete = [trial for trial in trials if trial.data.tags["state"] == "COMPLETE"]
    winner = min(complete, key=lambda trial: trial.data.metrics["value"])
    assert winner.data.params == {name: str(value) for name, value in best.items()}
    assert {trial.info.status for trial in complete} == {"FINISHED"}
    assert winner.data.metrics["validation_loss"] == winner.data.metrics["value"]
    names = {found.path for found in registry.client().list_artifacts(run.info.run_id)}
    assert "tuning.html" in names


def test_no_checkpoint_of_a_registered_candidate_is_left(loop: Loop) -> None:
    assert list((loop.platform.locations.home / "checkpoints").glob("*")) == []


def test_one_mlflow_run_belongs_to_one_dagster_run(loop: Loop, run: mlflow.entities.Run) -> None:
    assert run.data.tags["dagster_run_id"]
    found = loop.platform.instance.get_run_by_id(run.data.tags["dagster_run_id"])
    assert found.job_name == "retraining"
    assert found.tags["dagster/partition"] == DATASET


def test_training_again_gives_the_same_version(loop: Loop, registry: Registry) -> None:
    before = registry.versions_of(DATASET)
    result = materialize(
        ["tuned_params", "candidate_model"],
        DATASET,
        loop.store,
        loop.platform.params,
        registry,
        loop.platform.instance,
    )
    assert result.success
    assert registry.versions_of(DATASET) == before
    assert metadata(result, "candidate_model")["model_version"] == before[0].version
    assert data_version(result, "candidate_model") == before[0].digest
    assert Path(metadata(result, "candidate_model")["plots"]).name == "training.html"
    recorded = metadata(result, "tuned_params")
    assert "Optimization History" in Path(recorded["plots"]).read_text("utf-8")
    assert recorded["trials"] == loop.platform.params.tuning.trials
    assert set(recorded["importances"]) == set(recorded["best_params"])


def test_training_again_repairs_a_damaged_array_file_and_a_damaged_model(
    loop: Loop, registry: Registry
) -> None:
    candidate = registry.candidate(DATASET)
    record = load_panel(loop.platform.engine, DATASET)
    array = loop.store.arrays.local_path(record.location)
    address = registry.client().get_model_version_download_uri(
        registry.model_name, str(candidate.version)
    )
    weights = Path(address.removeprefix("file://"), BUNDLE_PATH, "network.safetensors")
    contents = {path: path.read_bytes() for path in (array, weights)}
    for path, content in contents.items():
        changed = bytearray(content)
        changed[-100:] = bytes(byte ^ 1 for byte in changed[-100:])
        path.unlink()  # its pages may be mapped
        path.write_bytes(changed)
    with pytest.raises(DamagedFileError, match="network"):
        registry.load(candidate.version)
    result = materialize(
        ["candidate_model"],
        DATASET,
        loop.store,
        loop.platform.params,
        registry,
        loop.platform.instance,
    )
    assert result.success, failure(result)
    assert registry.candidate(DATASET) == candidate
    assert {path: path.read_bytes() for path in contents} == contents


def test_earlier_folds_are_scored_beside_the_same_candidate(loop: Loop, registry: Registry) -> None:
    before = registry.versions_of(DATASET)
    engine, stages = loop.platform.engine, ["candidate_model"]
    record = load_panel(engine, DATASET)
    folds_of = {"walk_forward": WalkForward(folds=3).model_dump(mode="json")}
    save_panel(engine, replace(record, params=record.params | folds_of))
    try:
        result = materialize(
            stages, DATASET, loop.store, loop.platform.params, registry, loop.platform.instance
        )
    finally:
        save_panel(engine, record)
    assert result.success
    assert registry.versions_of(DATASET) == before
    folds = metadata(result, "candidate_model")["folds"].records
    assert [(fold.data["fold"], fold.data["model"]) for fold in folds] == [
        (number, model) for number in (1, 2) for model in ("candidate", "persistence")
    ]
    test = load_segments(loop.platform.engine, DATASET)["test"]
    assert folds[-1].data["last_session"] < test.first_session.isoformat()
    assert all(0.8 < fold.data["relative_mae"] < 1.3 for fold in folds)


def test_a_run_may_train_an_ensemble_whose_members_are_plotted(loop: Loop) -> None:
    own = Registry(loop.platform.params.tracking.model_copy(update={"model_name": "ensemble"}))
    result = materialize(
        ["candidate_model"],
        DATASET,
        loop.store,
        loop.platform.params,
        own,
        loop.platform.instance,
        config={"candidate_model": {"ensemble": 2}},
    )
    recorded = metadata(result, "candidate_model")
    assert recorded["settings"]["ensemble"] == 2
    assert own.load(recorded["model_version"]).recipe.network.members == 2
    page = Path(recorded["plots"]).read_text("utf-8")
    for line in ("training", "validation"):
        assert all(f"{line}, member {number}" in page for number in (1, 2))
        assert f"{line}, member 3" not in page


def test_a_failed_run_ends_failed_in_mlflow_too(loop: Loop, registry: Registry) -> None:
    missing = "20130108_120000"
    result = materialize(
        ["candidate_model"], missing, loop.store, loop.platform.params, registry,
        dg.DagsterInstance.ephemeral(),
    )  # fmt: skip
    assert not result.success
    assert f"dataset {missing} has no row in processed_feature_data" in failure(result)
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.dagster_run_id = '{result.run_id}'",
        output_format="list",
    )
    assert [found.info.status for found in runs] == ["FAILED"]
    assert registry.versions_of(missing) == []


def test_training_reads_no_test_session(loop: Loop) -> None:
    segments = load_segments(loop.platform.engine, DATASET)
    newest = max(segments[name].last_position for name in ("train", "validation"))
    assert newest < segments["test"].first_position


def test_other_test_sessions_change_no_weight(loop: Loop, tmp_path: Path) -> None:
    """The panel as it is stored, and one with other numbers after the last validation label."""
    engine, arrays = loop.platform.engine, loop.store.arrays
    record, segments = load_panel(engine, DATASET), load_segments(engine, DATASET)
    tensors = arrays.read_tensors(record.location)
    other = {name: tensor.copy() for name, tensor in tensors.items()}
    store = ArrayStore(str(tmp_path))
    paths = [store.local_path(store.write_tensors(held).location) for held in (tensors, other)]
    scalers = tuple(map(Scaler.from_dict, load_scalers(engine, DATASET)))
    dataset = loop.platform.params.dataset
    spans = [
        Segment(segments[name].first_position, segments[name].last_position)
        for name in ("train", "validation")
    ]
    selection, _ = split_validation(spans[1], dataset)
    after = selection.last + dataset.prediction_length + 1
    other["values"][after:], other["close"][after:] = 7.0, 7.0
    best = Hyperparameters.from_dict(load_tuning(engine, DATASET))
    digests = set()
    for path in paths:
        data = load_training_data(path, dataset, scalers, *spans)
        short = loop.platform.params.training.model_copy(update={"epochs": 1})
        digests.add(weights_digest(train_candidate(data, best, short).network))
    assert len(digests) == 1
