"""``stock-assets model``, and the commands after a loss of MLflow's database."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets_tests.cli.conftest import Command, Installation, copy_of, new_installation


@pytest.fixture
def copied() -> Iterator[Installation]:
    """A copy of the loop whose original exists; the test may destroy it."""
    with new_installation(bare=True, promotion={"floor": "none"}) as created:
        copy_of("loop", created)
        yield created


def drop_mlflow(installation: Installation) -> None:
    address = installation.address("postgres")
    engine = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE mlflow WITH (FORCE)"))


def test_recover_without_a_loss_changes_nothing(command: Command, looped: Installation) -> None:
    before = looped.versions()
    assert command("model", "recover").stdout.startswith("Nothing to recover")
    assert looped.versions() == before


def test_after_the_loss_of_mlflow_commands_refuse_until_models_are_recovered(
    command: Command, copied: Installation
) -> None:
    versions, production = sorted(copied.versions()), copied.alias()
    drop_mlflow(copied)
    forecasts = copied.value("SELECT count(*) FROM predictions")
    for words in (
        ["predict"],
        ["retrain"],
        ["model", "list"],
        ["model", "show", "1"],
        ["model", "compare", "1", "2"],
        ["model", "promote", "1", "--why", "a trial"],
        ["model", "rollback"],
    ):
        line = command(*words, at=copied).error
        assert "that MLflow does not know: version" in line
        assert "stock-assets model recover" in line
    assert "stock-assets model recover" in command("status", at=copied).stdout
    shown = json.loads(command("status", "--json", at=copied).stdout)
    assert shown["production"]["version"] == production
    assert copied.value("SELECT count(*) FROM predictions") == forecasts

    found = json.loads(command("model", "recover", "--json", at=copied).stdout)
    assert found["problems"] == []
    assert sorted(copied.versions()) == versions
    assert copied.alias() == production == found["production"]["version"]
    assert f"v{production}" in copied.succeed("predict")
    shown = json.loads(command("status", "--json", at=copied).stdout)
    assert shown["registry_problem"] is None


def test_changed_weights_and_models_of_the_original_forecast_nothing(
    command: Command, copied: Installation
) -> None:
    forecasts = copied.value("SELECT count(*) FROM predictions")
    for weights in copied.home.glob("mlflow/models/*/artifacts/artifacts/bundle/*.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-4000::4] = bytes(byte ^ 1 for byte in content[-4000::4])
        weights.write_bytes(content)
    line = command("predict", at=copied).error
    assert f"the model file {copied.home / 'mlflow'}" in line
    assert "is damaged: its SHA-256 is " in line
    assert "stock-assets retrain --dataset " in line
    assert copied.value("SELECT count(*) FROM predictions") == forecasts

    shutil.rmtree(copied.home / "mlflow" / "models")
    assert f"the model file {copied.home / 'mlflow'}" in command("predict", at=copied).error
