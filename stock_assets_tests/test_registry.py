"""The registry: versions, aliases and bundles in a real MLflow."""

from __future__ import annotations

import hashlib
import re
import shutil
from datetime import date
from pathlib import Path

import mlflow
import pytest

from stock_assets.cli.platform import Platform
from stock_assets.config import Rename, Tracking
from stock_assets.core.digests import DamagedFileError
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.market import calendar
from stock_assets.registry import TRACKING_VARIABLE, Registry
from stock_assets_tests.conftest import Loop
from stock_assets_tests.models.bundles import AS_OF, bundle, same_frame, sample_bars

DAYS = calendar.sessions(date(2012, 1, 3), date(2012, 12, 31))
MISSING = Tracking(experiment="registry", model_name="Missing")


@pytest.fixture(scope="module")
def registry(platform: Platform) -> Registry:
    """Create an experiment and a registered model of this module."""
    registry = Registry(Tracking(experiment="registry", model_name="Registry"))
    registry.client()
    registry.ensure_experiment()
    return registry


def register(registry: Registry, refit_of: int | None = None, **chosen: object) -> ModelVersion:
    mlflow.set_experiment("registry")
    with mlflow.start_run():
        return registry.register(bundle(**chosen), sample_bars(), refit_of)


def test_production_is_none_at_first(platform: Platform) -> None:
    assert Registry(MISSING).production() is None


def test_experiment_has_its_artifacts_in_the_home(platform: Platform, registry: Registry) -> None:
    registry.ensure_experiment()
    experiment = registry.client().get_experiment_by_name("registry")
    assert experiment.artifact_location == platform.locations.artifacts_folder.as_uri()


def test_model_is_registered_promoted_and_loaded(registry: Registry) -> None:
    first = register(registry)
    assert (first.dataset_run_id, first.as_of) == ("20121026_120000", AS_OF)
    assert first.digest == bundle().digest()
    assert registry.version(first.version) == first
    assert registry.candidate(first.dataset_run_id) == first
    assert registry.production() is None

    again = register(registry)
    assert again == first
    assert registry.versions_of(first.dataset_run_id) == [first]

    second = register(registry, seed=2)
    assert second.version > first.version
    assert register(registry, seed=2) == second
    assert second.mlflow_run_id != first.mlflow_run_id
    assert registry.versions_of(first.dataset_run_id) == [second, first]
    assert registry.candidate(first.dataset_run_id) == second

    for chosen in (first, second, first):
        registry.set_production_alias(chosen.version)
        assert registry.production() == chosen
    registry.set_production_alias(first.version)
    assert registry.production() == first

    loaded = registry.load(first.version)
    assert loaded.digest() == first.digest
    assert same_frame(
        loaded.forecast(sample_bars(), DAYS[-3:]), bundle().forecast(sample_bars(), DAYS[-3:])
    )


def bundle_folder(registry: Registry, version: int) -> Path:
    """Return where the files of a version are."""
    address = registry.client().get_model_version_download_uri(registry.model_name, str(version))
    return Path(address.removeprefix("file://")) / "artifacts" / "bundle"


@pytest.mark.parametrize("name", ["bundle.json", "network.safetensors"])
def test_a_changed_file_is_not_loaded(registry: Registry, name: str) -> None:
    version = register(registry, dataset_id="20121026_170000").version
    path = bundle_folder(registry, version) / name
    content = path.read_bytes()
    for harm in (content.replace(b" ", b"\t", 1), content[:-1], None):
        path.unlink()
        if harm is not None:
            path.write_bytes(harm)
        with pytest.raises(DamagedFileError, match=re.escape(str(path))) as caught:
            registry.load(version)
        assert hashlib.sha256(content).hexdigest()[:12] in caught.value.problem
        path.touch()
    path.write_bytes(content)
    registry.load(version)


def test_a_version_without_digests_of_files_is_compared_by_content(registry: Registry) -> None:
    version = register(registry, dataset_id="20121026_180000").version
    folder = bundle_folder(registry, version)
    for tag in ("sha256:bundle.json", "sha256:network.safetensors"):
        registry.client().delete_model_version_tag(registry.model_name, str(version), tag)
    registry.load(version)
    bundle(dataset_id="20121026_180000", seed=2).save(folder)
    with pytest.raises(DamagedFileError, match=re.escape(str(folder))):
        registry.load(version)
    bundle(dataset_id="20121026_180000").save(folder)
    registry.load(version)


def test_registering_equal_content_repairs_damaged_files(registry: Registry) -> None:
    stored = register(registry, dataset_id="20121026_190000")
    folder = bundle_folder(registry, stored.version)
    (folder / "network.safetensors").write_bytes(b"damaged")
    (folder / "bundle.json").unlink()
    assert register(registry, dataset_id="20121026_190000") == stored
    assert registry.load(stored.version).digest() == stored.digest


def test_a_copied_home_uses_its_own_files(loop: Loop) -> None:
    """The loop is a copy of a prepared home, which still exists."""
    registry = Registry(loop.platform.params.tracking)
    client, own = registry.client(), loop.platform.locations.artifacts_folder
    experiment = client.get_experiment_by_name(loop.platform.params.tracking.experiment)
    assert experiment is not None
    assert experiment.artifact_location == own.as_uri()
    for model in registry.versions():
        run = client.get_run(model.mlflow_run_id)
        assert run.info.artifact_uri == f"{own.as_uri()}/{model.mlflow_run_id}/artifacts"
        folder = bundle_folder(registry, model.version)
        assert folder.is_relative_to(own)
        assert registry.load(model.version).digest() == model.digest
        folder.rename(folder.with_name("elsewhere"))
        with pytest.raises(DamagedFileError, match=re.escape(str(folder))):
            registry.load(model.version)
        folder.with_name("elsewhere").rename(folder)


def test_a_version_is_read_from_this_home_if_its_address_names_another(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored = register(registry, dataset_id="20121026_200000")
    monkeypatch.setenv("STOCK_ASSETS_HOME", str(tmp_path))
    with pytest.raises(DamagedFileError, match=re.escape(str(tmp_path))):
        registry.load(stored.version)
    folder = bundle_folder(registry, stored.version)
    moved = tmp_path / "mlflow" / "models" / folder.parents[2].name / "artifacts" / "artifacts"
    shutil.copytree(folder, moved / "bundle")
    assert registry.load(stored.version).digest() == stored.digest


def test_newest_version_is_the_candidate_even_if_equal_to_an_older_one(registry: Registry) -> None:
    dataset = "20121026_150000"
    first, other, again = (register(registry, dataset_id=dataset, seed=seed) for seed in (1, 2, 1))
    assert again.digest == first.digest != other.digest
    assert again.version > other.version
    assert registry.candidate(dataset) == again


def test_refit_is_a_separate_version_and_never_the_candidate(registry: Registry) -> None:
    dataset = "20121026_130000"
    candidate = register(registry, dataset_id=dataset)
    assert registry.refit(candidate) is None
    refit = register(registry, candidate.version, dataset_id=dataset, seed=2)
    assert refit.refit_of == candidate.version
    assert str(refit) == f"version {refit.version}, refit of {candidate.version}"
    assert str(candidate) == f"version {candidate.version}"
    assert registry.candidate(dataset) == candidate
    assert registry.refit(candidate) == refit
    assert register(registry, candidate.version, dataset_id=dataset, seed=2) == refit
    registry.set_production_alias(refit.version)
    assert registry.production() == refit
    assert [registry.evaluation_version(model) for model in (refit, candidate)] == [
        candidate,
        candidate,
    ]


def test_refit_with_equal_weights_is_a_separate_version(registry: Registry) -> None:
    dataset = "20121026_140000"
    candidate = register(registry, dataset_id=dataset)
    refit = register(registry, candidate.version, dataset_id=dataset)
    assert refit.digest == candidate.digest
    assert registry.versions_of(dataset) == [refit, candidate]
    assert register(registry, dataset_id=dataset) == candidate


def test_model_is_loaded_with_current_symbols(registry: Registry) -> None:
    stored = register(registry, seed=3)
    rename = Rename(old="FB", new="META", first_session=date(2012, 11, 15))
    today = Registry(Tracking(experiment="registry", model_name="Registry"), [rename])
    assert today.load(stored.version).recipe.tickers == ("AAPL", "META", "GOOG", "IBM", "MSFT")
    assert today.version(stored.version) == stored
    assert registry.load(stored.version).digest() == stored.digest


def test_unknown_versions_and_datasets_are_errors(registry: Registry) -> None:
    with pytest.raises(StockAssetsError, match="has no version 99"):
        registry.version(99)
    with pytest.raises(StockAssetsError, match="dataset 20000101_000000 has no registered"):
        registry.candidate("20000101_000000")
    assert registry.versions_of("20000101_000000") == []


def test_version_without_tags_is_foreign(registry: Registry) -> None:
    client = registry.client()
    client.create_registered_model("Foreign")
    client.create_model_version("Foreign", source="file:///nowhere")
    foreign = Registry(Tracking(experiment="registry", model_name="Foreign"))
    foreign.set_production_alias(1)
    with pytest.raises(StockAssetsError, match="version 1 of Foreign was not registered"):
        foreign.version(1)
    assert (foreign.production(), foreign.foreign_production()) == (None, 1)
    assert (foreign.versions(), foreign.foreign_versions()) == ([], [1])


def test_missing_tracking_store_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRACKING_VARIABLE, raising=False)
    with pytest.raises(StockAssetsError, match=TRACKING_VARIABLE):
        Registry(MISSING).client()
