"""``stock-assets model``, and the commands after a loss of MLflow's database."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets_tests.cli.conftest import Installation, copy_of, new_installation


@pytest.fixture
def copied() -> Iterator[Installation]:
    """A copy of the loop whose original exists; the test may destroy it."""
    with new_installation(bare=True, promotion={}) as created:
        copy_of("loop", created)
        yield created


def drop_mlflow(installation: Installation) -> None:
    address = installation.address("postgres")
    engine = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE mlflow WITH (FORCE)"))


def test_recover_without_a_loss_changes_nothing(looped: Installation) -> None:
    before = looped.versions()
    assert looped.succeed("model", "recover").startswith("Nothing to recover")
    assert looped.versions() == before


def test_after_the_loss_of_mlflow_commands_refuse_until_models_are_recovered(
    copied: Installation,
) -> None:
    versions, production = sorted(copied.versions()), copied.alias()
    drop_mlflow(copied)
    forecasts = copied.value("SELECT count(*) FROM predictions")
    for command in (
        ["predict"],
        ["retrain"],
        ["model", "list"],
        ["model", "show", "1"],
        ["model", "compare", "1", "2"],
        ["model", "promote", "1", "--why", "a trial"],
        ["model", "rollback"],
    ):
        refused = copied.run(*command)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert "that MLflow does not know: version" in refused.stderr
        assert "stock-assets model recover" in refused.stderr
    assert "stock-assets model recover" in copied.succeed("status")
    assert json.loads(copied.succeed("status", "--json"))["production"]["version"] == production
    assert copied.value("SELECT count(*) FROM predictions") == forecasts

    found = json.loads(copied.succeed("model", "recover", "--json"))
    assert found["problems"] == []
    assert sorted(copied.versions()) == versions
    assert copied.alias() == production == found["production"]["version"]
    assert f"v{production}" in copied.succeed("predict")
    assert json.loads(copied.succeed("status", "--json"))["registry_problem"] is None


def test_changed_weights_and_models_of_the_original_forecast_nothing(
    copied: Installation,
) -> None:
    forecasts = copied.value("SELECT count(*) FROM predictions")
    for weights in copied.home.glob("mlflow/models/*/artifacts/artifacts/bundle/*.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-4000::4] = bytes(byte ^ 1 for byte in content[-4000::4])
        weights.write_bytes(content)
    refused = copied.run("predict")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f"the model file {copied.home / 'mlflow'}" in refused.stderr
    assert "is damaged: its SHA-256 is " in refused.stderr
    assert "stock-assets retrain --dataset " in refused.stderr
    assert copied.value("SELECT count(*) FROM predictions") == forecasts

    shutil.rmtree(copied.home / "mlflow" / "models")
    refused = copied.run("predict")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f"the model file {copied.home / 'mlflow'}" in refused.stderr
