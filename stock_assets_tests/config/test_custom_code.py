"""Custom code runs only where the parameter file names it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stock_assets.config.custom_code import code_digests, import_custom, named_code
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import (
    build_environment,
    differences,
    forecast_environment,
    training_code,
)
from stock_assets_tests.custom_code import FEATURE, NETWORK, custom_project, forget


@pytest.fixture
def project(tmp_path: Path):
    with custom_project(tmp_path / "custom") as folder:
        yield folder


def test_named_code_is_that_of_the_parameter_file(project: Path) -> None:
    assert named_code("network") == (NETWORK,)
    assert named_code("feature") == (FEATURE,)


def test_there_is_no_own_code_without_a_parameter_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCK_ASSETS_PROJECT", str(tmp_path))
    assert named_code("network") == ()


def test_named_code_is_imported(project: Path) -> None:
    assert import_custom(NETWORK, "network").__name__ == "TemporalConvolution"


@pytest.mark.parametrize("name", ["evil:Network", "our_networks:Other"])
def test_code_that_is_not_named_does_not_run(project: Path, name: str) -> None:
    (project / "evil.py").write_text(f"open({str(project / 'ran')!r}, 'w')\n")
    with pytest.raises(StockAssetsError, match=f"does not name the network {name}") as caught:
        import_custom(name, "network")
    assert "tuning.search_space.architecture" in caught.value.remedy
    assert not (project / "ran").exists()
    assert not {"evil", "our_networks"} & set(sys.modules)


def test_a_named_feature_is_no_named_network(project: Path) -> None:
    with pytest.raises(StockAssetsError, match="does not name the network"):
        import_custom(FEATURE, "network")


@pytest.mark.parametrize("content", ["", "import a_module_that_is_missing\n"])
def test_code_that_cannot_be_imported_is_an_error(project: Path, content: str) -> None:
    (project / "our_networks.py").write_text(content)
    with pytest.raises(StockAssetsError, match=f"{NETWORK} cannot be imported") as caught:
        import_custom(NETWORK, "network")
    assert "tuning.search_space.architecture" in caught.value.remedy


def test_an_installed_module_comes_before_one_beside_the_parameters(project: Path) -> None:
    (project / "colorsys.py").write_text("raise RuntimeError\n")
    sys.modules.pop("colorsys", None)
    text = (project / "params.yaml").read_text().replace(NETWORK, "colorsys:rgb_to_hls")
    (project / "params.yaml").write_text(text)
    assert import_custom("colorsys:rgb_to_hls", "network")(1.0, 0.0, 0.0) == (0.0, 0.5, 1.0)


def test_digests_follow_the_code_but_not_its_line_ends(project: Path) -> None:
    before, file = code_digests(["lstm", NETWORK]), project / "our_networks.py"
    assert list(before) == [NETWORK]
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\n", b"\r\n"))
    assert code_digests([NETWORK]) == before
    file.write_bytes(content + b"# changed\n")
    assert code_digests([NETWORK]) != before


@pytest.mark.parametrize("name", ["missing:Network", "missing.inside:Network"])
def test_the_digest_of_a_missing_module_is_empty(project: Path, name: str) -> None:
    assert code_digests([name]) == {name: ""}


def test_build_environments_name_changed_custom_code(project: Path) -> None:
    dataset, forecast, training = build_environment(), forecast_environment(), training_code()
    file = project / "our_networks.py"
    file.write_text(file.read_text() + "# changed\n")
    assert differences(dataset, build_environment()) == []
    assert differences(forecast, forecast_environment()) == [f"code changed in {NETWORK}"]
    assert training_code() != training
    file = project / "our_features.py"
    file.write_text(file.read_text() + "# changed\n")
    assert differences(dataset, build_environment()) == [f"code changed in {FEATURE}"]


def test_a_changed_parameter_file_is_read_again(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace(FEATURE, "our_features:other"))
    forget()
    assert named_code("feature") == ("our_features:other",)
