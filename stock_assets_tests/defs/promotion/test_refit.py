"""Refit: a promoted candidate is trained again once, and that version goes into production."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from mlflow.entities import Run

from stock_assets.cli.platform import Platform
from stock_assets.config import Params, Tracking
from stock_assets.core.digests import DamagedFileError
from stock_assets.defs.resources import Store
from stock_assets.evaluation.metrics import summarise
from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION, ModelVersion, model_for
from stock_assets.evaluation.promotion_rule import PromotionOutcome
from stock_assets.evaluation.scoring import score_due
from stock_assets.features.splits import Segment
from stock_assets.market import calendar
from stock_assets.models.data import load_training_data
from stock_assets.models.intervals import ScaledIntervals
from stock_assets.models.refit import refit_bundle
from stock_assets.models.training import weights_digest
from stock_assets.pipeline.repetition import train_again
from stock_assets.pipeline.training import Later, refit_on_dataset
from stock_assets.pipeline.training_logs import logged_training
from stock_assets.pipeline.versions import fitted_label, newest_label, newest_seen_label
from stock_assets.registry import Registry
from stock_assets.storage.database import STORE_URL_VARIABLE, upgrade
from stock_assets.storage.datasets import load_panel, load_segments
from stock_assets.storage.decisions import (
    PromotionRecord,
    promotion_of,
    record_retraining_decision,
)
from stock_assets.storage.forecasts import (
    predictions_as_of,
    read_performance,
    save_performance,
)
from stock_assets.storage.model_files import BUNDLE_PATH, read_version
from stock_assets.storage.production import production_changes
from stock_assets_tests.conftest import throw_away_database
from stock_assets_tests.defs.running import failure, materialize, metadata, params
from stock_assets_tests.models.bundles import AS_OF, DATASET_ID, FIRST, sample_bars
from stock_assets_tests.storage.examples import RETRAINING, store_bars

TRACKING = Tracking(experiment="refit", model_name="Refitted")
NEXT_AS_OF, NEXT_DATASET = date(2013, 1, 31), "20130131_120000"
SHADOW_AS_OF, SHADOW_DATASET = date(2013, 2, 8), "20130208_120000"
BEFORE_PROMOTION = [
    "processed_features",
    "scalers",
    "scaled_features",
    "tuned_params",
    "candidate_model",
]


@dataclass(frozen=True)
class Snapshot:
    """Everything that a promotion may change, after a run of it."""

    failed_with: str | None
    decided: PromotionRecord | None
    versions: list[ModelVersion]
    production: ModelVersion | None
    timeline: list[dict[str, Any]]


@dataclass(frozen=True)
class Installation:
    """Stores, a registered model and an instance of this module, with the real assets."""

    store: Store
    params: Params
    registry: Registry
    instance: dg.DagsterInstance

    def run(self, assets: list[Any], key: str) -> dg.ExecuteInProcessResult:
        return materialize(assets, key, self.store, self.params, self.registry, self.instance)

    def promote(self, dataset: str) -> Snapshot:
        result = self.run(["promotion"], dataset)
        history = self.instance.fetch_materializations(dg.AssetKey("production_model"), limit=9)
        return Snapshot(
            None if result.success else failure(result),
            promotion_of(self.store.engine, TRACKING.model_name, dataset),
            self.registry.versions_of(dataset),
            self.registry.production(),
            [
                {name: value.value for name, value in event.asset_materialization.metadata.items()}
                for event in history.records
            ],
        )


@pytest.fixture(scope="module")
def installation(platform: Platform) -> Iterator[Installation]:
    with (
        throw_away_database(platform) as url,
        tempfile.TemporaryDirectory() as home,
        pytest.MonkeyPatch.context() as environment,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        upgrade(url)
        environment.setenv(STORE_URL_VARIABLE, url)
        environment.setenv("STOCK_ASSETS_HOME", home)
        environment.setenv("STOCK_ASSETS_ARRAYS_URL", str(Path(home) / "arrays"))
        chosen = params(
            prices={"first_session": FIRST},
            dataset={
                "window": 10,
                "history_sessions": None,
                "validation_sessions": 40,
                "test_sessions": 20,
            },
            training={"epochs": 4, "patience": 4},
            promotion={"refit": True, "floor": "none", "shadow_sessions": 4},
            tracking=TRACKING.model_dump(),
        )
        store = Store(database_url=url, arrays_url=str(Path(home) / "arrays"))
        store_bars(store.engine, sample_bars())
        yield Installation(store, chosen, Registry(TRACKING), instance)
        store.engine.dispose()


@dataclass(frozen=True)
class Story:
    """The first dataset: killed after registering the refit, then before the alias, then run."""

    unrecorded: Snapshot
    unpromoted: Snapshot
    done: Snapshot
    again: Snapshot


@pytest.fixture(scope="module")
def story(installation: Installation) -> Story:
    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    trained = installation.run(BEFORE_PROMOTION, DATASET_ID)
    assert trained.success, failure(trained)
    with pytest.MonkeyPatch.context() as faults:
        faults.setattr("stock_assets.defs.promotion.assets.record_refit", killed)
        unrecorded = installation.promote(DATASET_ID)
    with pytest.MonkeyPatch.context() as faults:
        faults.setattr(installation.registry, "set_production_alias", killed)
        unpromoted = installation.promote(DATASET_ID)
    done = installation.promote(DATASET_ID)
    return Story(unrecorded, unpromoted, done, installation.promote(DATASET_ID))


@pytest.fixture(scope="module")
def candidate(installation: Installation, story: Story) -> ModelVersion:
    return installation.registry.candidate(DATASET_ID)


@pytest.fixture(scope="module")
def refit(story: Story) -> ModelVersion:
    assert story.done.production is not None
    return story.done.production


@pytest.fixture(scope="module")
def following(installation: Installation, story: Story) -> Snapshot:
    """The next dataset, whose candidate met the refit of the first."""
    trained = installation.run(BEFORE_PROMOTION, NEXT_DATASET)
    assert trained.success, failure(trained)
    return installation.promote(NEXT_DATASET)


def test_a_promoted_candidate_goes_into_production_as_its_refit(
    story: Story, candidate: ModelVersion, refit: ModelVersion
) -> None:
    assert story.done.failed_with is None
    assert story.done.versions == [refit, candidate]
    assert refit.refit_of == candidate.version
    assert candidate.refit_of is None
    assert (refit.dataset_run_id, refit.as_of) == (DATASET_ID, AS_OF)
    assert refit.digest != candidate.digest
    decided = story.done.decided
    assert decided is not None
    assert decided.promoted
    assert decided.candidate_version == candidate.version
    assert decided.refit_version == decided.promoted_version == refit.version


def test_the_candidate_of_the_dataset_is_still_the_one_without_refit(
    installation: Installation, candidate: ModelVersion, refit: ModelVersion
) -> None:
    assert candidate.version < refit.version
    assert installation.registry.refit(candidate) == refit
    assert installation.registry.refit(refit) is None
    assert installation.registry.evaluation_version(refit) == candidate
    assert installation.registry.evaluation_version(candidate) == candidate


def test_the_timeline_of_production_names_the_refit(
    story: Story, candidate: ModelVersion, refit: ModelVersion
) -> None:
    (event,) = story.done.timeline
    assert event["cause"] == "refit"
    assert event["model_version"] == refit.version
    assert event["refit_of"] == candidate.version
    assert event["digest"] == refit.digest
    assert "replaces_version" not in event


def test_a_registered_refit_is_reused_after_a_kill(story: Story) -> None:
    assert story.unrecorded.failed_with is not None
    assert "killed" in story.unrecorded.failed_with
    assert story.unrecorded.decided is not None
    assert story.unrecorded.decided.refit_version is None
    assert story.unrecorded.versions == story.done.versions
    assert story.unrecorded.production is None


def test_the_alias_is_moved_after_a_kill(story: Story, refit: ModelVersion) -> None:
    assert story.unpromoted.failed_with is not None
    assert story.unpromoted.decided == story.done.decided
    assert story.unpromoted.versions == story.done.versions
    assert (story.unpromoted.production, story.unpromoted.timeline) == (None, [])
    assert story.done.production == refit


def test_a_second_run_changes_nothing(story: Story) -> None:
    assert story.again == story.done


def test_a_refit_keeps_the_recipe_and_changes_the_weights(
    installation: Installation, candidate: ModelVersion, refit: ModelVersion
) -> None:
    first, again = (installation.registry.load(model.version) for model in (candidate, refit))
    label, intervals = again.recipe.newest_label, again.recipe.intervals
    assert label == AS_OF
    begun = replace(first.recipe, newest_label=label, intervals=intervals)
    assert again.recipe.to_dict() == begun.to_dict()
    assert weights_digest(again.network) != weights_digest(first.network)


def test_a_refit_begins_with_the_residuals_of_the_candidate_on_the_test_segment(
    installation: Installation, candidate: ModelVersion, refit: ModelVersion
) -> None:
    first, again = (installation.registry.load(model.version) for model in (candidate, refit))
    start, own = first.recipe.intervals, again.recipe.intervals
    assert isinstance(start, ScaledIntervals)
    assert isinstance(own, ScaledIntervals)
    segments = load_segments(installation.store.engine, DATASET_ID)
    calibrated = len(start.residuals)
    assert start.own_residuals_from == segments["test"].first_session
    assert own.own_residuals_from == AS_OF
    test = calendar.sessions(segments["test"].first_session, segments["test"].last_session)
    assert len(own.residuals) == calibrated + len(test)
    scored = score_due(first.forecast(sample_bars(), test), sample_bars())
    error = np.log(scored["actual"] / scored["predicted"]).to_numpy().reshape(len(test), -1)
    panel = first.panel(sample_bars(), AS_OF)
    volatility = first.scaled_volatility(sample_bars(), panel, start.scale)
    unit = (volatility * first.recipe.target_scaler.scale[:, 0])[-len(test) - 1 : -1]
    np.testing.assert_allclose(own.residuals[calibrated:, 0], error / unit, rtol=1e-4, atol=1e-5)


def test_the_newest_label_of_the_files_is_that_of_the_segments(
    installation: Installation, candidate: ModelVersion, refit: ModelVersion
) -> None:
    engine, registry = installation.store.engine, installation.registry
    labels = {model: fitted_label(engine, registry, model) for model in (candidate, refit)}
    assert labels == {model: newest_label(engine, model) for model in labels}
    train = load_segments(engine, DATASET_ID)["train"]
    assert labels[candidate] == calendar.next_session(train.last_session)
    assert labels[candidate] < newest_seen_label(engine, candidate) < labels[refit] == AS_OF


def refitted_on(installation: Installation, candidate: ModelVersion, last: int) -> str:
    """Digest of the candidate's weights, trained again from its first window to a last one."""
    store, registry = installation.store, installation.registry
    segments = load_segments(store.engine, candidate.dataset_run_id)
    train, validation = segments["train"], segments["validation"]
    panel = load_panel(store.engine, candidate.dataset_run_id)
    bundle = registry.load(candidate.version)
    logged = logged_training(registry.client(), candidate)
    data = load_training_data(
        store.arrays.local_path(panel.location),
        installation.params.dataset,
        (bundle.recipe.feature_scaler, bundle.recipe.target_scaler),
        Segment(train.first_position, last),
        Segment(validation.first_position, validation.last_position),
    )
    refit = refit_bundle(
        bundle, data, installation.params.training, logged.batch_size, logged.learning_rates
    )
    return weights_digest(refit.bundle.network)


def weights_of(installation: Installation, model: ModelVersion) -> str:
    return weights_digest(installation.registry.load(model.version).network)


def test_the_logged_training_reproduces_the_candidates_weights(
    installation: Installation, candidate: ModelVersion
) -> None:
    train = load_segments(installation.store.engine, DATASET_ID)["train"]
    assert refitted_on(installation, candidate, train.last_position) == weights_of(
        installation, candidate
    )


def test_the_refit_is_trained_through_the_label_of_the_as_of_session(
    installation: Installation, candidate: ModelVersion, refit: ModelVersion
) -> None:
    panel = load_panel(installation.store.engine, DATASET_ID)
    sessions = calendar.sessions(panel.first_session, panel.as_of_session)
    newest = len(sessions) - 2  # its label is the last session
    weights = weights_of(installation, refit)
    assert refitted_on(installation, candidate, newest) == weights
    assert refitted_on(installation, candidate, newest - 1) != weights


def test_the_mlflow_run_holds_the_refit(
    installation: Installation, candidate: ModelVersion, refit: ModelVersion
) -> None:
    run: Run = installation.registry.client().get_run(refit.mlflow_run_id)
    epochs = len(logged_training(installation.registry.client(), candidate).learning_rates[0])
    assert run.data.tags["refit_of"] == str(candidate.version)
    assert run.data.tags["refit_version"] == str(refit.version)
    network = installation.registry.load(refit.version).network
    assert run.data.tags["refit_weights"] == weights_digest(network)
    assert run.data.metrics["refit_epochs"] == epochs
    history = installation.registry.client().get_metric_history(run.info.run_id, "refit_train_loss")
    assert [point.step for point in history] == list(range(1, epochs + 1))


def test_forecasts_are_made_by_the_refit_from_its_as_of_session_on(
    installation: Installation, story: Story, refit: ModelVersion
) -> None:
    result = installation.run(["predictions"], AS_OF.isoformat())
    assert result.success, failure(result)
    assert metadata(result, "predictions")["model_versions"] == str(refit.version)
    made = predictions_as_of(installation.store.engine, [AS_OF])
    assert set(made["model_version"]) == {refit.version}
    earlier = calendar.previous_session(AS_OF)
    before = installation.run(["predictions"], earlier.isoformat())
    assert before.success, failure(before)
    assert metadata(before, "predictions")["model_versions"] == str(PERSISTENCE_VERSION)


def test_the_next_candidate_is_compared_with_the_refit_after_its_as_of_session(
    installation: Installation, following: Snapshot, candidate: ModelVersion, refit: ModelVersion
) -> None:
    decided = following.decided
    assert decided is not None
    assert decided.production is not None
    assert decided.production_version == refit.version
    assert decided.decision.evaluated_version is None
    assert decided.first_session >= AS_OF
    held_out = calendar.sessions(decided.first_session, decided.last_session)
    scores = {
        model.version: summarise(
            score_due(
                installation.registry.load(model.version).forecast(sample_bars(), held_out),
                sample_bars(),
            )
        )
        for model in (candidate, refit)
    }
    assert decided.production["relative_mae"] == scores[refit.version].relative_mae
    assert decided.production["relative_mae"] != scores[candidate.version].relative_mae


def test_replays_are_forecast_by_what_was_in_production(
    installation: Installation, following: Snapshot, refit: ModelVersion
) -> None:
    history = production_changes(installation.store.engine, TRACKING.model_name)
    assert model_for(calendar.previous_session(NEXT_AS_OF), history) == refit


def test_a_damaged_refit_is_trained_again(
    installation: Installation, story: Story, refit: ModelVersion
) -> None:
    (path,) = [
        file
        for file in Path(os.environ["STOCK_ASSETS_HOME"]).glob("mlflow/models/*/artifacts")
        if read_version(file, TRACKING.model_name) == refit.version
    ]
    (path / BUNDLE_PATH / "network.safetensors").write_bytes(b"damaged")
    with pytest.raises(DamagedFileError):
        installation.registry.load(refit.version)
    assert installation.promote(DATASET_ID).versions == story.done.versions
    assert installation.registry.load(refit.version).digest() == refit.digest


def test_a_rollback_to_the_candidate_is_kept(
    installation: Installation, story: Story, candidate: ModelVersion
) -> None:
    standing = installation.registry.production()
    assert standing is not None
    installation.registry.set_production_alias(candidate.version)
    try:
        after = installation.promote(DATASET_ID)
        assert after.production == candidate
        assert after.versions == story.done.versions
    finally:
        installation.registry.set_production_alias(standing.version)


@dataclass(frozen=True)
class InShadow:
    """A dataset that an alarm requested: its candidate enters the shadow, and wins there."""

    entered: Snapshot
    decided: Snapshot


@pytest.fixture(scope="module")
def in_shadow(installation: Installation, story: Story) -> InShadow:
    store, days = installation.store, calendar.sessions(SHADOW_AS_OF, date(2013, 2, 15))
    scored = [calendar.next_session(day) for day in days]
    alarm = replace(RETRAINING, session=SHADOW_AS_OF, dataset_run_id=SHADOW_DATASET)
    record_retraining_decision(store.engine, alarm)
    trained = installation.run(BEFORE_PROMOTION, SHADOW_DATASET)
    assert trained.success, failure(trained)
    entered = installation.promote(SHADOW_DATASET)
    for asset, first, last in (
        ("predictions", days[0], days[-1]),
        ("performance_log", scored[0], scored[-1]),
    ):
        made = materialize(
            [asset],
            f"{first}",
            store,
            installation.params,
            installation.registry,
            installation.instance,
            f"{last}",
        )
        assert made.success, failure(made)
    rows = read_performance(store.engine, scored[0], scored[-1])
    own = rows["role"] == "shadow"
    rows.loc[own, "absolute_error"] = 0.9 * rows.loc[~own, "absolute_error"].to_numpy()
    save_performance(store.engine, rows, scored, "run")
    return InShadow(entered, installation.promote(SHADOW_DATASET))


def test_a_candidate_in_shadow_is_compared_as_a_refit(in_shadow: InShadow) -> None:
    entered = in_shadow.entered
    assert entered.failed_with is None
    assert entered.decided is not None
    assert entered.decided.decision.outcome is PromotionOutcome.SHADOW
    refit, candidate = entered.versions
    assert entered.decided.refit_version == refit.version
    assert (refit.refit_of, refit.as_of) == (candidate.version, SHADOW_AS_OF)
    assert entered.production not in entered.versions


def test_the_winner_of_a_shadow_is_refitted_as_of_the_last_session_that_decided(
    installation: Installation, in_shadow: InShadow
) -> None:
    decided = in_shadow.decided
    assert decided.failed_with is None
    assert decided.decided is not None
    assert decided.decided.decision.outcome is PromotionOutcome.SHADOW_LOWER_LOSS
    newest, first, candidate = decided.versions
    assert decided.production == newest
    assert decided.decided.refit_version == newest.version
    assert decided.decided.decision.shadow is not None
    assert decided.decided.decision.shadow.version == first.version
    assert newest.refit_of == candidate.version
    assert newest.as_of == decided.decided.decision.shadow.sessions[-1] == date(2013, 2, 14)
    recipe = installation.registry.load(newest.version).recipe
    assert (recipe.as_of, recipe.newest_label) == (newest.as_of, newest.as_of)
    assert installation.promote(SHADOW_DATASET) == decided


def test_a_refit_as_of_a_later_session_is_trained_again_to_the_bit(
    installation: Installation, in_shadow: InShadow, tmp_path: Path
) -> None:
    newest, first, _ = in_shadow.decided.versions
    store = installation.store
    for version in (newest, first):
        again = train_again(
            store.engine,
            store.arrays,
            installation.registry,
            version.version,
            installation.params,
            tmp_path,
        )
        assert again.digest() == version.digest


def test_a_refit_in_memory_is_the_refit_of_the_stored_panel(
    installation: Installation, in_shadow: InShadow, tmp_path: Path
) -> None:
    """As of the dataset's own session both ways read the same windows."""
    _, first, candidate = in_shadow.decided.versions
    store, registry = installation.store, installation.registry
    logged = logged_training(registry.client(), candidate)
    refit, _, _ = refit_on_dataset(
        store.engine,
        store.arrays,
        candidate,
        registry.load(candidate.version),
        logged,
        tmp_path,
        Later(SHADOW_AS_OF, load_panel(store.engine, SHADOW_DATASET).known_at),
    )
    assert refit.bundle.digest() == first.digest
