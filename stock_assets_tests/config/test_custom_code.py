"""Custom code runs only where the parameter file names it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stock_assets.config.custom_code import import_custom, named_code
from stock_assets.core.errors import StockAssetsError
from stock_assets_tests.custom_code import FEATURE, NETWORK, custom_project


@pytest.fixture
def project(tmp_path: Path):
    with custom_project(tmp_path / "custom") as folder:
        yield folder


def test_named_code_is_that_of_the_parameter_file(project: Path) -> None:
    assert named_code("network") == (NETWORK,)
    assert named_code("feature") == (FEATURE,)


def test_there_is_no_custom_code_without_a_parameter_file(
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


FAULTS = {
    "": "AttributeError",
    "import a_module_that_is_missing\n": "our_networks.py, line 1: ModuleNotFoundError",
    "a = 1\nb = (\n": "our_networks.py, line 2: SyntaxError",
    "\n\na = 1 / 0\n": "our_networks.py, line 3: ZeroDivisionError",
    "\nraise SystemExit(3)\n": "our_networks.py, line 2: SystemExit",
    "import numpy as np\nnp.zeros(-1)\n": "our_networks.py, line 2: ValueError",
    "import our_helper\n": "our_helper.py, line 1: RuntimeError",
    "from stock_assets.features.feature import custom_feature\ncustom_feature(inputs=())\n": (
        "our_networks.py, line 2: StockAssetsError"
    ),
}


@pytest.mark.parametrize("content", FAULTS)
def test_code_that_cannot_be_imported_is_an_error_with_its_place(
    project: Path, content: str
) -> None:
    (project / "our_networks.py").write_text(content)
    (project / "our_helper.py").write_text("raise RuntimeError\n")
    with pytest.raises(StockAssetsError, match=f"{NETWORK} cannot be imported") as caught:
        import_custom(NETWORK, "network")
    assert FAULTS[content] in caught.value.problem
    assert "tuning.search_space.architecture" in caught.value.remedy


def test_code_that_is_no_longer_named_is_refused_after_its_import(project: Path) -> None:
    import_custom(NETWORK, "network")
    path = project / "params.yaml"
    path.write_text(path.read_text().replace(NETWORK, "our_networks:Other"))
    with pytest.raises(StockAssetsError, match="does not name the network"):
        import_custom(NETWORK, "network")


def test_an_installed_module_comes_before_one_beside_the_parameters(project: Path) -> None:
    (project / "colorsys.py").write_text("raise RuntimeError\n")
    sys.modules.pop("colorsys", None)
    text = (project / "params.yaml").read_text().replace(NETWORK, "colorsys:rgb_to_hls")
    (project / "params.yaml").write_text(text)
    assert import_custom("colorsys:rgb_to_hls", "network")(1.0, 0.0, 0.0) == (0.0, 0.5, 1.0)


def test_a_changed_parameter_file_is_read_again(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace(FEATURE, "our_features:other"))
    assert named_code("feature") == ("our_features:other",)
