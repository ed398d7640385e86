"""Fingerprints: the build environment names source files and libraries."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from stock_assets.core import fingerprints
from stock_assets.core.fingerprints import (
    build_environment,
    differences,
    plain_digest,
    training_code,
)


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
