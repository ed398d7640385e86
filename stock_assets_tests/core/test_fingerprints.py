"""Fingerprints: the build environment names source files and libraries."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stock_assets.core import fingerprints
from stock_assets.core.fingerprints import (
    build_environment,
    custom_names,
    differences,
    forecast_environment,
    plain_digest,
    training_code,
)
from stock_assets_tests.custom_code import FEATURE, NETWORK, custom_project, documented

PACKAGE = fingerprints._PACKAGE


def test_build_environment_names_the_files_that_decide_a_dataset() -> None:
    code = build_environment()["code"]
    assert {
        "config/modelling.py",
        "datasets/build.py",
        "features/panel.py",
        "features/scaling.py",
        "market/adjustment.py",
        "market/xnys_closures.json",
        "storage/arrays.py",
    } <= set(code)
    others = ("cli/", "defs/", "models/", "market/sources/", "datasets/verify.py")
    assert not [name for name in code if name.startswith(others)]


def test_build_environment_has_the_installed_versions() -> None:
    libraries = build_environment()["libraries"]
    assert libraries["numpy"] == np.__version__
    assert set(libraries) == {"python", *fingerprints.LIBRARIES}


NOT_DECIDING = {
    *(f"core/{name}.py" for name in ("digests", "errors", "fingerprints", "locations")),
    *(f"core/{name}.py" for name in ("module_code", "progress", "yaml_file")),
    "evaluation/drift.py",  # which no forecast and no weight depends on
}
IN_THE_DATASET = ("config/", "market/")
"""Parameters and bars of a training are those of its dataset."""


def imported(*modules: str) -> set[str]:
    """Return the files of the package that modules import, directly or not, or in a function."""
    found: set[str] = set()
    left = set(modules)
    while left:
        file = left.pop()
        found.add(file)
        tree = ast.parse((PACKAGE / file).read_bytes())
        left |= {name for name in map(_file, _names(tree)) if name is not None} - found
    return {file for file in found if not file.endswith("__init__.py")}


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))


def _file(module: str) -> str | None:
    path = module.removeprefix("stock_assets.").replace(".", "/")
    files = [file for file in (f"{path}.py", f"{path}/__init__.py") if (PACKAGE / file).is_file()]
    return files[0] if files and module.startswith("stock_assets.") else None


def test_forecast_environment_names_the_code_that_a_forecast_imports() -> None:
    code = forecast_environment()["code"]
    files = imported("models/bundle.py", "models/persistence.py")
    assert {"evaluation/intervals.py", "features/volatility.py", "market/calendar.py"} <= files
    assert files - code.keys() == NOT_DECIDING


def test_training_code_follows_the_code_that_a_training_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_PACKAGE", tmp_path)
    names = ("calibration", "candidate", "refit", "tuning")
    files = imported(*(f"models/{name}.py" for name in names)) - NOT_DECIDING
    assert {"evaluation/shrinkage.py", "evaluation/significance.py"} <= files
    unfollowed = set()
    for file in files:
        before = training_code()
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
        if training_code() == before:
            unfollowed.add(file)
    assert all(file.startswith(IN_THE_DATASET) for file in unfollowed), unfollowed


@pytest.fixture
def project(tmp_path: Path):
    with custom_project(tmp_path / "custom") as folder:
        yield folder


def test_environments_depend_on_the_custom_code_that_is_used(project: Path) -> None:
    dataset, other = build_environment(["High", FEATURE]), build_environment(["High"])
    forecast = forecast_environment([NETWORK, FEATURE])
    assert custom_names(other) == []
    assert custom_names(dataset) == [FEATURE]
    assert custom_names(forecast) == [NETWORK, FEATURE]
    for name in ("our_networks", "our_features"):
        (project / f"{name}.py").write_text(documented(name) + "# changed\n")
    for then, changed in ((dataset, [FEATURE]), (other, [])):
        lines = differences(then, build_environment(custom_names(then)))
        assert lines == [f"code changed in {name}" for name in changed]
    now = forecast_environment(custom_names(forecast))
    assert differences(forecast, now) == [f"code changed in {FEATURE}, {NETWORK}"]


def test_training_code_depends_on_the_custom_code_that_is_used(project: Path) -> None:
    before, plain = training_code([NETWORK]), training_code(["lstm"])
    assert before != plain == training_code()
    (project / "our_networks.py").write_text(documented("our_networks") + "# changed\n")
    assert training_code([NETWORK]) != before
    assert training_code(["lstm"]) == plain


def test_environments_do_not_read_the_parameters(project: Path) -> None:
    (project / "params.yaml").write_text("no parameters")
    assert custom_names(build_environment([FEATURE])) == [FEATURE]
    assert training_code([NETWORK]) != training_code()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a few files in place of the real one."""
    for name in ("config/prices.py", "features/panel.py", "models/fit.py", "market/bars.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"a = 1\nb = 2\n")
    monkeypatch.setattr(fingerprints, "_PACKAGE", tmp_path)
    return tmp_path


def test_a_changed_new_or_deleted_file_is_a_difference_and_line_ends_are_not(
    package: Path,
) -> None:
    before = build_environment()
    (package / "config" / "prices.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    assert differences(before, build_environment()) == []
    (package / "features" / "panel.py").write_bytes(b"a = 1\nb = 3\n")
    (package / "features" / "new.py").touch()
    (package / "market" / "bars.py").unlink()
    (difference,) = differences(before, build_environment())
    assert difference.endswith("features/new.py, features/panel.py, market/bars.py")


def test_training_code_follows_features_and_models(package: Path) -> None:
    before = training_code()
    (package / "market" / "bars.py").unlink()
    assert training_code() == before
    (package / "models" / "fit.py").write_text("c = 3")
    assert training_code() != before


def test_differences_show_both_versions() -> None:
    now = build_environment()
    then = copy.deepcopy(now)
    then["package"] = "0.0.9"
    then["libraries"]["numpy"] = "1.0"
    del then["libraries"]["torch"]
    assert differences(then, now) == [
        f"stock-assets 0.0.9 then, {now['package']} now",
        f"numpy 1.0 then, {np.__version__} now",
        f"torch none then, {now['libraries']['torch']} now",
    ]


def test_a_processor_that_was_not_recorded_is_no_difference() -> None:
    now = build_environment()
    assert now["processor"]
    without = {name: value for name, value in now.items() if name != "processor"}
    assert differences(without, now) == []
    (line,) = differences(now | {"processor": "another"}, now)
    assert line == f"processor another then, {now['processor']} now"


def test_plain_digest_depends_on_values_and_not_on_the_order_of_keys() -> None:
    assert plain_digest({"a": 1, "b": [0.1]}) == plain_digest({"b": [0.1], "a": 1})
    assert plain_digest({"rate": 0.1}) != plain_digest({"rate": 0.2})
