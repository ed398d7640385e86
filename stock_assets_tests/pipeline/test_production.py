"""Changes of production: the row, the alias that follows it, and changes made in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import mlflow
import pytest
from sqlalchemy import Engine

from stock_assets.cli.platform import Platform
from stock_assets.config import Tracking
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.evaluation.production_rule import (
    Cause,
    ModelVersion,
    persistence,
    version_in_force,
)
from stock_assets.pipeline.production import (
    LostVersionError,
    change_production,
    production_history,
    registered,
    rollback_target,
)
from stock_assets.registry import PRODUCTION, Registry
from stock_assets.storage.model_files import BUNDLE_PATH, folder_in
from stock_assets.storage.production import NewChange, ProductionChange, production_changes
from stock_assets_tests.models.bundles import bundle, sample_bars


@dataclass(frozen=True)
class Production:
    """A database and a registered model of one test, with three versions."""

    engine: Engine
    registry: Registry
    versions: list[ModelVersion]

    def put(self, place: int, cause: Cause = Cause.PERSON) -> list[ProductionChange]:
        change = NewChange(self.versions[place], cause, "because")
        return change_production(self.engine, self.registry, lambda _: change)

    def history(self) -> list[ProductionChange]:
        return production_history(self.engine, self.registry)

    def stored(self) -> list[ProductionChange]:
        return production_changes(self.engine, self.registry.model_name)

    def remove_alias(self) -> None:
        self.registry.client().delete_registered_model_alias(self.registry.model_name, PRODUCTION)

    def delete(self, place: int) -> None:
        version = str(self.versions[place].version)
        self.registry.client().delete_model_version(self.registry.model_name, version)


@pytest.fixture(scope="module")
def registered_models(platform: Platform) -> list[str]:
    """Addresses of three versions, for models that copy them."""
    registry = Registry(Tracking(experiment="production", model_name="Copied"))
    registry.client()
    registry.ensure_experiment()
    mlflow.set_experiment("production")
    with mlflow.start_run():
        versions = [registry.register(bundle(seed=seed), sample_bars()) for seed in (1, 2, 3)]
    return [f"models:/{registry.model_name}/{version.version}" for version in versions]


@pytest.fixture
def production(
    registered_models: list[str], engine: Engine, tmp_path: Path
) -> Iterator[Production]:
    registry = Registry(Tracking(experiment="production", model_name=tmp_path.name))
    client = registry.client()
    for address in registered_models:
        client.copy_model_version(address, registry.model_name)
    yield Production(engine, registry, registry.versions()[::-1])
    with suppress(Exception):
        client.delete_registered_model(registry.model_name)


def in_force(history: list[ProductionChange]) -> ModelVersion | None:
    return version_in_force(history)


def test_before_the_first_change_there_is_no_history(production: Production) -> None:
    assert production.history() == []


def test_the_alias_follows_each_change(production: Production) -> None:
    for place in (0, 1, 0):
        history = production.put(place)
        assert in_force(history) == production.versions[place]
        assert production.registry.production() == production.versions[place]
        assert production.history() == history
    assert len(history) == 3


def test_a_winner_of_a_past_session_moves_no_alias(production: Production) -> None:
    production.put(0)
    past = NewChange(
        production.versions[1], Cause.PROMOTION, "won", until_session=production.versions[0].as_of
    )
    history = change_production(production.engine, production.registry, lambda _: past)
    assert history[-1].model == production.versions[1]
    assert production.registry.production() == in_force(history) == production.versions[0]
    assert production.history() == history


def test_an_alias_that_was_set_before_the_history_begins_it(production: Production) -> None:
    production.registry.set_production_alias(production.versions[1].version)
    (found,) = production.history()
    assert (found.model, found.cause) == (production.versions[1], Cause.FOUND_OUTSIDE)
    assert production.history() == [found]


@pytest.mark.parametrize("place", [0, 2], ids=["to the version before", "to a new one"])
def test_a_moved_alias_is_written_down_once(production: Production, place: int) -> None:
    production.put(0)
    before = production.put(1)
    production.registry.set_production_alias(production.versions[place].version)
    *kept, found = production.history()
    assert kept == before
    assert (found.model, found.cause) == (production.versions[place], Cause.FOUND_OUTSIDE)
    assert found.why is not None
    assert f"moved to version {production.versions[place].version}" in found.why
    assert found.changed_by is None
    assert production.history() == [*kept, found]


def test_a_removed_alias_is_a_change_to_no_version(production: Production) -> None:
    production.put(0)
    production.remove_alias()
    *_, found = production.history()
    assert (found.model, found.cause) == (None, Cause.FOUND_OUTSIDE)
    assert found.why == "the alias Production was removed in MLflow"
    assert production.history()[-1] == found
    assert in_force(production.put(1)) == production.versions[1]


def test_an_alias_on_a_foreign_version_is_a_change_to_no_version_and_is_overwritten(
    production: Production,
) -> None:
    production.put(0)
    client, name = production.registry.client(), production.registry.model_name
    foreign = int(client.create_model_version(name, source="file:///nowhere").version)
    production.registry.set_production_alias(foreign)
    *_, found = history = production.history()
    assert (found.model, found.cause) == (None, Cause.FOUND_OUTSIDE)
    assert found.why is not None
    assert f"version {foreign}, which" in found.why
    assert production.history() == history
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(production.registry, "set_production_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            production.put(0)
    production.history()
    assert production.registry.production() == production.versions[0]
    production.registry.set_production_alias(foreign)
    assert production.history()[-1].model is None
    assert in_force(production.put(1)) == production.registry.production() == production.versions[1]


def test_a_deleted_version_is_a_change_to_no_version(production: Production) -> None:
    production.put(0)
    production.put(1)
    production.delete(1)
    *_, found = production.history()
    assert found.model is None
    assert found.why == f"version {production.versions[1].version} was deleted in MLflow"
    with pytest.raises(LostVersionError, match="no longer has it"):
        registered(production.registry, production.versions[1])
    assert in_force(production.put(0)) == production.versions[0]


def step_down(production: Production) -> list[ProductionChange]:
    change = NewChange(persistence(date(2013, 1, 2), "digest"), Cause.STEP_DOWN, "too bad")
    return change_production(production.engine, production.registry, lambda _: change)


def test_persistence_in_force_has_no_alias(production: Production) -> None:
    before = production.put(0)
    history = step_down(production)
    assert in_force(history) == persistence(date(2013, 1, 2), "digest")
    assert production.registry.production() is None
    assert production.history() == history
    assert len(history) == len(before) + 1
    assert in_force(production.put(1)) == production.registry.production() == production.versions[1]


@pytest.mark.parametrize("method", ["remove_production_alias", "mark_production"])
def test_a_change_to_persistence_that_was_killed_before_the_alias_is_completed(
    production: Production, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    production.put(0)
    with monkeypatch.context() as faults:
        faults.setattr(production.registry, method, killed)
        with pytest.raises(KeyboardInterrupt):
            step_down(production)
    recorded = production.stored()
    assert production.history() == recorded
    assert production.registry.production() is None


def test_an_alias_set_while_persistence_is_in_force_is_found(production: Production) -> None:
    production.put(0)
    step_down(production)
    production.registry.set_production_alias(production.versions[1].version)
    *_, found = production.history()
    assert (found.model, found.cause) == (production.versions[1], Cause.FOUND_OUTSIDE)


def test_a_rollback_returns_from_and_to_persistence(production: Production) -> None:
    production.put(0)
    change = NewChange(persistence(date(2013, 1, 2), "digest"), Cause.PERSON, "a trial")
    history = change_production(production.engine, production.registry, lambda _: change)
    assert rollback_target(production.registry, history) == (production.versions[0], [])
    history = production.put(1)
    assert rollback_target(production.registry, history) == (change.model, [])


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["set_production_alias", "mark_production"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_a_change_that_was_killed_before_the_alias_is_completed(
    production: Production, monkeypatch: pytest.MonkeyPatch, method: str, first: bool
) -> None:
    if not first:
        production.put(0)
    with monkeypatch.context() as faults:
        faults.setattr(production.registry, method, killed)
        with pytest.raises(KeyboardInterrupt):
            production.put(1)
    recorded = production.stored()
    assert in_force(recorded) == production.versions[1]
    assert production.history() == recorded
    assert production.registry.production() == production.versions[1]
    # From here on, a move is a person's.
    production.registry.set_production_alias(production.versions[0].version)
    assert production.history()[-1].cause is Cause.FOUND_OUTSIDE


def test_a_move_after_a_kill_to_another_version_is_a_persons(
    production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    production.put(0)
    with monkeypatch.context() as faults:
        faults.setattr(production.registry, "set_production_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            production.put(1)
    production.registry.set_production_alias(production.versions[2].version)
    assert in_force(production.history()) == production.versions[2]


def test_a_lost_registry_is_refused_and_a_rebuilt_one_goes_on(production: Production) -> None:
    first = production.put(0)
    production.registry.client().delete_registered_model(production.registry.model_name)
    for _ in range(2):
        with pytest.raises(LostVersionError) as lost:
            production.history()
        assert "stock-assets model recover" in lost.value.remedy
    assert production.stored() == first
    with mlflow.start_run():
        production.registry.register(bundle(seed=1), sample_bars())
    assert production.history() == first
    assert production.versions[0].is_same(production.registry.production())


def test_a_version_registered_again_is_known_by_its_digest(production: Production) -> None:
    old = production.versions[2]
    production.put(2)
    production.registry.client().delete_registered_model(production.registry.model_name)
    with mlflow.start_run():
        again = production.registry.register(bundle(seed=3), sample_bars())
    assert (again.version, again.digest) == (1, old.digest)
    assert registered(production.registry, old) == again
    production.history()
    assert production.registry.production() == again
    assert in_force(production.history()) == again


def test_of_two_changes_at_once_the_second_sees_the_first(production: Production) -> None:
    seen: list[int] = []

    def put(place: int) -> Callable[[object], NewChange | None]:
        def choose(history: object) -> NewChange | None:
            assert isinstance(history, list)
            seen.append(len(history))
            if history:
                return None
            return NewChange(production.versions[place], Cause.PROMOTION, None)

        return choose

    with ThreadPoolExecutor() as threads:
        results = list(
            threads.map(
                lambda place: change_production(production.engine, production.registry, put(place)),
                range(3),
            )
        )
    assert sorted(seen) == [0, 1, 1]
    assert results[0] == results[1] == results[2] == production.history()
    assert production.registry.production() == in_force(results[0])


def test_a_refused_change_changes_nothing(production: Production) -> None:
    before = production.put(0)

    def refuse(_: object) -> NewChange:
        raise StockAssetsError("no", "never")

    with pytest.raises(StockAssetsError, match="no"):
        change_production(production.engine, production.registry, refuse)
    assert production.history() == before


def test_a_version_of_unknown_digest_is_known_by_its_number(production: Production) -> None:
    model = replace(production.versions[1], digest=None)
    assert registered(production.registry, model) == production.versions[1]


def test_a_rollback_passes_over_versions_with_damaged_files(production: Production) -> None:
    first, second, third = production.versions
    history = [production.put(place) for place in (0, 1, 2)][-1]
    assert rollback_target(production.registry, history) == (second, [])
    with missing_weights(production.registry, second):
        assert rollback_target(production.registry, history) == (first, [second])
        with (
            missing_weights(production.registry, first),
            pytest.raises(StockAssetsError, match=f"the files of {second}, {first} are damaged"),
        ):
            rollback_target(production.registry, history)
    with missing_weights(production.registry, third):
        assert rollback_target(production.registry, history) == (second, [])


@contextmanager
def missing_weights(registry: Registry, model: ModelVersion) -> Iterator[None]:
    address = registry.client().get_model_version_download_uri(
        registry.model_name, str(model.version)
    )
    folder = folder_in(find_locations().artifacts_folder, address)
    assert folder is not None
    (weights,) = (folder / BUNDLE_PATH).glob("*.safetensors")
    moved = weights.rename(weights.with_suffix(".moved"))
    yield
    moved.rename(weights)
