"""A registry that lost versions on record: commands refuse, and recovery registers them again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import pytest
import yaml
from sqlalchemy import Engine

from stock_assets.cli.platform import Platform
from stock_assets.config import Params, Promotion, Tracking
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.production_rule import Cause, ModelVersion
from stock_assets.pipeline.forecasting import make_forecasts
from stock_assets.pipeline.production import (
    LostRegistryError,
    LostVersionError,
    change_production,
    registered,
)
from stock_assets.pipeline.promotion import compare
from stock_assets.pipeline.recovery import (
    checked_history,
    recover,
    require_known_versions,
    skip_given_numbers,
)
from stock_assets.registry import TRACKING_VARIABLE, Registry
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import save_promotion
from stock_assets.storage.production import (
    NewChange,
    ProductionChange,
    production_changes,
    record_change,
)
from stock_assets_tests.conftest import throw_away_database
from stock_assets_tests.models.bundles import AS_OF, bundle, sample_bars
from stock_assets_tests.storage.examples import PANEL, PROMOTION

FIRST, SECOND, THIRD = "20121026_120000", "20121026_130000", "20121026_140000"


@pytest.fixture(scope="module")
def other_mlflow(platform: Platform) -> Iterator[str]:
    """Address of a database that takes the place of a lost one."""
    with throw_away_database(platform) as url:
        yield url


@dataclass
class Home:
    """A home with models that are promoted on record, and a registry that can be lost."""

    engine: Engine
    folder: Path
    registry: Registry
    environment: pytest.MonkeyPatch
    other_mlflow: str

    def register(self, dataset: str, seed: int = 1, refit_of: int | None = None) -> ModelVersion:
        self.registry.client()
        self.registry.ensure_experiment()
        mlflow.set_experiment(self.registry.model_name)
        with mlflow.start_run():
            trained = bundle(dataset_id=dataset, seed=seed)
            return self.registry.register(trained, sample_bars(), refit_of)

    def decide(
        self, candidate: ModelVersion, *, refit: ModelVersion | None = None, promoted: bool = True
    ) -> None:
        dataset = candidate.dataset_run_id
        save_panel(self.engine, replace(PANEL, dataset_run_id=dataset))
        decided = replace(
            PROMOTION,
            dataset_run_id=dataset,
            model_name=self.registry.model_name,
            candidate_version=candidate.version,
            refit_version=refit.version if refit else None,
            mlflow_run_id=candidate.mlflow_run_id,
            promoted=promoted,
        )
        save_promotion(self.engine, decided)
        if promoted:
            winner = refit or candidate
            change = NewChange(winner, Cause.PROMOTION, decided.reason)
            record_change(self.engine, self.registry.model_name, change, "run")

    def put(self, model: ModelVersion | None, cause: Cause = Cause.PERSON) -> None:
        """Put a version in force without a decision."""
        change = NewChange(model, cause, "because")
        change_production(self.engine, self.registry, lambda _: change)

    def delete(self, model: ModelVersion) -> None:
        self.registry.client().delete_model_version(self.registry.model_name, str(model.version))

    def history(self) -> list[ProductionChange]:
        return production_changes(self.engine, self.registry.model_name)

    def lose_registry(self) -> None:
        self.environment.setenv(TRACKING_VARIABLE, self.other_mlflow)
        assert self.registry.versions() == []

    def files(self, version: ModelVersion) -> Path:
        """Return the folder that MLflow registered for a version."""
        name = self.registry.model_name
        address = self.registry.client().get_model_version_download_uri(name, str(version.version))
        return Path(address.removeprefix("file://"))


@pytest.fixture
def home(
    platform: Platform,
    engine: Engine,
    other_mlflow: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Home:
    monkeypatch.setenv("STOCK_ASSETS_HOME", str(tmp_path))
    name = str(request.node.name)
    registry = Registry(Tracking(experiment=name, model_name=name))
    return Home(engine, tmp_path, registry, monkeypatch, other_mlflow)


def test_versions_on_record_are_registered_again_as_they_were(home: Home) -> None:
    first, second = home.register(FIRST), home.register(SECOND, seed=2)
    refit = home.register(SECOND, seed=3, refit_of=second.version)
    third = home.register(THIRD, seed=4)
    home.decide(first)
    home.decide(second, refit=refit)
    home.decide(third, promoted=False)
    require_known_versions(home.engine, home.registry)
    home.lose_registry()
    with pytest.raises(StockAssetsError, match=r"version 1, 3\.") as caught:
        require_known_versions(home.engine, home.registry)
    assert "stock-assets model recover" in caught.value.remedy

    found = recover(home.engine, home.registry)
    assert found.problems == []
    assert found.registered == [first, second, refit, third]
    assert home.registry.versions() == [third, refit, second, first]
    assert home.registry.production() == found.production == refit
    for model in found.registered:
        assert home.registry.load(model.version).digest() == model.digest
    require_known_versions(home.engine, home.registry)
    again = recover(home.engine, home.registry)
    assert (again.registered, again.production, again.problems) == ([], refit, [])
    assert home.register(FIRST, seed=9).version == third.version + 1


def test_a_version_in_force_without_a_decision_is_recovered(home: Home) -> None:
    first, second = home.register(FIRST), home.register(SECOND, seed=2)
    home.put(first)
    home.put(second)
    home.lose_registry()
    with pytest.raises(LostRegistryError, match=r"version 1, 2\."):
        require_known_versions(home.engine, home.registry)
    found = recover(home.engine, home.registry)
    assert (found.registered, found.production) == ([first, second], second)
    assert found.problems == []


def test_a_deleted_version_that_was_in_force_is_restored_as_it_was(home: Home) -> None:
    first, second = home.register(FIRST), home.register(SECOND, seed=2)
    home.put(first)
    home.put(second)
    home.delete(first)
    history = home.history()
    with pytest.raises(LostVersionError) as lost:
        registered(home.registry, first)
    assert "stock-assets model recover" in lost.value.remedy
    assert f"stock-assets retrain --dataset {FIRST}" in lost.value.remedy
    found = recover(home.engine, home.registry)
    assert (found.registered, found.production, found.problems) == ([first], second, [])
    assert registered(home.registry, first) == first
    assert home.registry.load(first.version).digest() == first.digest
    assert home.history() == history
    assert recover(home.engine, home.registry).registered == []


def test_recovery_restores_the_version_in_force_and_its_alias(home: Home) -> None:
    first = home.register(FIRST)
    home.put(first)
    home.delete(first)
    found = recover(home.engine, home.registry)
    assert (found.registered, found.production) == ([first], first)
    assert home.registry.production() == first
    assert len(home.history()) == 1


def test_a_removal_on_record_stays_after_recovery(home: Home) -> None:
    first = home.register(FIRST)
    home.put(first)
    home.delete(first)
    assert checked_history(home.engine, home.registry)[-1].model is None
    found = recover(home.engine, home.registry)
    assert (found.registered, found.production) == ([first], None)
    (problem,) = found.problems
    assert f"stock-assets model promote {first.version} " in problem
    home.put(first)
    assert home.registry.production() == first


def test_the_deleted_candidate_of_a_refit_in_force_is_restored(home: Home) -> None:
    candidate = home.register(FIRST)
    refit = home.register(FIRST, seed=2, refit_of=candidate.version)
    unused = home.register(SECOND, seed=3)
    home.decide(candidate, refit=refit)
    home.decide(unused, promoted=False)
    home.delete(candidate)
    home.delete(unused)
    with pytest.raises(StockAssetsError) as deleted:
        home.registry.evaluation_version(refit)
    assert "stock-assets model recover" in deleted.value.remedy
    found = recover(home.engine, home.registry)
    assert found.registered == [candidate]
    assert home.registry.evaluation_version(refit) == candidate


def test_the_number_of_a_lost_rejected_candidate_without_files_is_reserved(home: Home) -> None:
    rejected = home.register(FIRST)
    home.decide(rejected, promoted=False)
    shutil.rmtree(home.files(rejected))
    home.lose_registry()
    found = recover(home.engine, home.registry)
    assert (found.registered, found.production) == ([], None)
    (problem,) = found.problems
    assert f"version {rejected.version}:" in problem
    assert home.register(SECOND).version == rejected.version + 1


def test_a_deleted_version_without_files_has_a_remedy(home: Home) -> None:
    first = home.register(FIRST)
    home.put(first)
    files = home.files(first)
    home.delete(first)
    shutil.rmtree(files)
    for _ in range(2):
        found = recover(home.engine, home.registry)
        assert found.registered == []
        (problem,) = found.problems
        assert problem.endswith(f"stock-assets retrain --dataset {FIRST}")
    again = home.register(FIRST)
    assert again.version == first.version + 1
    assert registered(home.registry, first) == again
    assert recover(home.engine, home.registry).problems == []


def test_a_number_on_record_is_not_given_again_under_another_name(home: Home) -> None:
    first, second = home.register(FIRST), home.register(SECOND, seed=2)
    home.decide(first)
    home.put(second)
    skip_given_numbers(home.engine, home.registry)
    assert home.register(THIRD, seed=3).version == 3
    name = f"{home.registry.model_name}, renamed"
    renamed = replace(home, registry=Registry(Tracking(experiment=name, model_name=name)))
    skip_given_numbers(home.engine, renamed.registry)
    assert renamed.registry.versions() == []
    assert renamed.register(THIRD, seed=3).version == 3
    skip_given_numbers(home.engine, renamed.registry)
    assert renamed.register(FIRST, seed=4).version == 4


def test_every_step_that_would_go_on_as_new_is_refused(home: Home) -> None:
    first = home.register(FIRST)
    home.decide(first)
    home.lose_registry()
    refused = "were put in force that MLflow does not know: version 1"
    with pytest.raises(StockAssetsError, match=refused):
        checked_history(home.engine, home.registry)
    history = production_changes(home.engine, home.registry.model_name)
    with pytest.raises(LostVersionError):
        make_forecasts(home.engine, home.registry, history, [AS_OF], Params())
    candidate = replace(first, version=2, dataset_run_id=SECOND)
    with pytest.raises(LostVersionError):
        compare(home.engine, home.registry, candidate, history, Promotion(), "run")


def test_a_promotion_newer_than_the_registry_is_lost(home: Home) -> None:
    first = home.register(FIRST)
    home.decide(first)
    home.decide(replace(first, version=2, dataset_run_id=SECOND))
    with pytest.raises(StockAssetsError, match=r"does not know: version 2\."):
        require_known_versions(home.engine, home.registry)


def test_a_number_given_again_to_another_dataset_is_lost_and_reported(home: Home) -> None:
    first, second = home.register(FIRST), home.register(SECOND)
    home.decide(first)
    home.decide(second)
    home.lose_registry()
    home.register(THIRD)
    with pytest.raises(StockAssetsError, match="version 1, 2"):
        require_known_versions(home.engine, home.registry)
    found = recover(home.engine, home.registry)
    assert found.registered == [second]
    assert found.problems == ["version 1: MLflow gave its number to another model"]


def test_a_version_deleted_in_mlflow_is_not_lost(home: Home) -> None:
    first, second = home.register(FIRST), home.register(SECOND)
    home.decide(first)
    home.decide(second)
    home.registry.client().delete_model_version(home.registry.model_name, str(second.version))
    require_known_versions(home.engine, home.registry)


def test_decisions_that_promoted_nothing_and_other_names_lose_nothing(home: Home) -> None:
    other = Registry(Tracking(model_name="Never registered"))
    home.decide(home.register(FIRST), promoted=False)
    home.lose_registry()
    require_known_versions(home.engine, home.registry)
    require_known_versions(home.engine, other)


def test_a_damaged_model_is_named_and_its_number_is_not_given_again(home: Home) -> None:
    first, second = home.register(FIRST), home.register(SECOND)
    home.decide(second)
    home.decide(first)
    weights = home.files(first) / "artifacts" / "bundle" / "network.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    home.lose_registry()
    found = recover(home.engine, home.registry)
    assert found.registered == [second]
    assert found.production is None
    damaged, deleted, production = found.problems
    assert str(weights) in damaged
    assert deleted == "version 1: no undamaged artifacts; recorded as deleted"
    assert production.startswith(f"version 1 of dataset {FIRST} was put in force")
    left = recover(home.engine, home.registry).problems[1]
    assert left.startswith("version 1 was deleted and has no undamaged artifacts")
    require_known_versions(home.engine, home.registry)


def test_models_logged_without_digests_are_matched_by_dataset_and_order(home: Home) -> None:
    home.register(THIRD)  # not on record: its number stays unused
    candidate = home.register(FIRST)
    refit = home.register(FIRST, seed=2, refit_of=candidate.version)
    home.decide(candidate, refit=refit)
    for model in (candidate, refit):
        folder = home.files(model)
        (folder / "registered_model_meta").unlink()
        described = yaml.safe_load((folder / "MLmodel").read_text())
        described["metadata"] = None
        (folder / "MLmodel").write_text(yaml.safe_dump(described))
    home.lose_registry()
    found = recover(home.engine, home.registry)
    assert (found.registered, found.problems) == ([candidate, refit], [])
    assert found.production == refit


def test_a_model_with_another_digest_than_the_history_of_production_is_left_out(
    home: Home,
) -> None:
    first, second = home.register(FIRST), home.register(SECOND)
    home.decide(first)
    home.decide(second)
    folder = home.files(first)
    (folder / "MLmodel").write_text(
        re.sub(r"^metadata:\n(  .*\n)+", "", (folder / "MLmodel").read_text(), flags=re.MULTILINE)
    )
    other = bundle(dataset_id=FIRST, seed=2)
    other.save(folder / "artifacts" / "bundle")
    home.lose_registry()
    found = recover(home.engine, home.registry)
    assert found.registered == [second]
    assert found.problems[0].startswith("version 1: the digest of ")
    assert first.digest[:12] in found.problems[0]
    assert other.digest()[:12] in found.problems[0]


def test_a_folder_without_the_models_is_an_error(home: Home) -> None:
    first = home.register(FIRST)
    home.decide(first)
    (home.files(first) / "MLmodel").unlink()
    home.lose_registry()
    with pytest.raises(StockAssetsError, match=re.escape(str(home.folder))) as caught:
        recover(home.engine, home.registry)
    assert "tracking.model_name" in caught.value.remedy
    assert home.registry.versions() == []
