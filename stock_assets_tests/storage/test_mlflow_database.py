"""MLflow's database: addresses of another home's artifacts are replaced, all others are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from stock_assets.cli.platform import Platform
from stock_assets.config import Tracking
from stock_assets.registry import Registry
from stock_assets.storage.mlflow_database import adopt_artifacts, datasets_of_versions

KEPT = ("s3://bucket/mlflow", "file:///elsewhere/results", "mlflow-artifacts:/7")


@pytest.fixture(scope="module")
def registry(platform: Platform) -> Registry:
    registry = Registry(Tracking(experiment="addresses", model_name="Addresses"))
    registry.ensure_experiment()
    for number, address in enumerate(KEPT):
        registry.client().create_experiment(f"kept {number}", artifact_location=address)
    return registry


def test_only_addresses_below_another_homes_artifacts_are_replaced(
    platform: Platform, registry: Registry
) -> None:
    url, own = platform.variables["MLFLOW_TRACKING_URI"], platform.locations.artifacts_folder
    client, other = registry.client(), Path("/somewhere/else (1)/mlflow")
    experiment = client.get_experiment_by_name("addresses")
    assert experiment is not None
    run = client.create_run(experiment.experiment_id).info
    adopt_artifacts(url, own)  # homes of earlier tests
    assert adopt_artifacts(url, own) == []
    assert adopt_artifacts(url, other) == [own.as_uri()]
    moved = client.get_run(run.run_id).info.artifact_uri
    assert adopt_artifacts(url, own) == [other.as_uri()]
    assert moved == f"{other.as_uri()}/{run.run_id}/artifacts"
    assert client.get_run(run.run_id).info.artifact_uri == run.artifact_uri
    kept = [client.get_experiment_by_name(f"kept {number}") for number in range(len(KEPT))]
    assert tuple(one.artifact_location for one in kept if one) == KEPT


def test_a_new_experiment_of_a_moved_home_logs_to_it(
    platform: Platform, registry: Registry
) -> None:
    url, own = platform.variables["MLFLOW_TRACKING_URI"], platform.locations.artifacts_folder
    adopt_artifacts(url, Path("/somewhere/else/mlflow"))
    registry.ensure_experiment()
    experiment = registry.client().get_experiment_by_name("addresses")
    assert experiment is not None
    assert experiment.artifact_location == own.as_uri()


def test_a_database_that_mlflow_never_used_has_no_addresses_and_no_versions(
    own_database: str,
) -> None:
    assert adopt_artifacts(own_database, Path("/somewhere/mlflow")) == []
    assert datasets_of_versions(own_database, "Addresses") == {}


def test_deleted_versions_keep_their_number(platform: Platform, registry: Registry) -> None:
    client, url = registry.client(), platform.variables["MLFLOW_TRACKING_URI"]
    client.create_registered_model("Addresses")
    for dataset in ("20120131_120000", "20120229_120000"):
        tags = {"dataset_run_id": dataset, "other": "tag"}
        client.create_model_version("Addresses", source="file:///nowhere", tags=tags)
    client.create_model_version("Addresses", source="file:///nowhere")
    client.delete_model_version("Addresses", "2")
    assert datasets_of_versions(url, "Addresses") == {
        1: "20120131_120000",
        2: "20120229_120000",
        3: None,
    }
