"""The documented network and feature through the whole loop, as an ensemble of two."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from stock_assets_tests.cli.conftest import Installation, copy_of, new_installation
from stock_assets_tests.custom_code import FEATURE, NETWORK, documented
from stock_assets_tests.prepared import SMALL

SPACE = {
    **SMALL["tuning"]["search_space"],
    "architecture": [NETWORK],
    "custom": {NETWORK: {"kernel": {"low": 2, "high": 4}}},
}


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation with prices, whose parameters name custom code beside them."""
    sections = {
        "features": {"custom": [FEATURE]},
        "tuning": {**SMALL["tuning"], "search_space": SPACE},
        "training": {**SMALL["training"], "ensemble": 2},
        "promotion": {"refit": True, "floor": "none"},
    }
    with new_installation(bare=True, **sections) as created:
        for module in ("our_networks", "our_features"):
            (created.project / f"{module}.py").write_text(documented(module))
        copy_of("ingested", created)
        yield created


@pytest.mark.long
def test_custom_code_is_trained_forecast_with_and_proved(installation: Installation) -> None:
    installation.succeed("retrain", "--as-of", "2012-12-31")
    installation.succeed("predict", "--date", "2013-01-02")
    best = installation.value("SELECT best_params FROM optimization_results")
    assert best["architecture"] == NETWORK
    assert 2 <= best[f"{NETWORK}.kernel"] <= 4
    features = installation.value("SELECT features FROM processed_feature_data")
    assert features[-1] == FEATURE
    assert "2 hold to the bit" in installation.succeed("prove", "--sample", "2", "--retrain")
    installation.succeed("verify")

    file = installation.project / "our_networks.py"
    file.write_text(f"{file.read_text()}# changed\n")
    refused = installation.run("predict", "--date", "2013-01-03")
    assert refused.returncode == 1
    assert f"the code of {NETWORK} has changed" in refused.stderr
    assert installation.value("SELECT count(DISTINCT as_of_session) FROM predictions") == 1


@pytest.mark.long
def test_a_dataset_differs_only_if_the_code_of_its_own_features_changes(
    installation: Installation,
) -> None:
    installation.succeed("retrain", "--as-of", "2012-12-31")
    dataset = installation.value("SELECT dataset_run_id FROM processed_feature_data")

    def differences() -> list[str]:
        return json.loads(installation.succeed("dataset", "show", dataset, "--json"))["differs_now"]

    path = installation.project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["features"]["custom"].append("our_copy:mean_gap")
    path.write_text(yaml.safe_dump(params))
    (installation.project / "our_copy.py").write_text(documented("our_features"))
    assert differences() == []
    file = installation.project / "our_features.py"
    file.write_text(f"{file.read_text()}# changed\n")
    assert differences() == [f"code changed in {FEATURE}"]
    assert f"code changed in {FEATURE}" in installation.run("dataset", "verify", dataset).stdout
