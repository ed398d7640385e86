"""What a dataset is made with: named file by file, library by library."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from stock_assets.core import fingerprints
from stock_assets.core.fingerprints import build_environment, differences, plain_digest


def test_the_files_that_make_a_dataset_are_there_and_no_others() -> None:
    code = build_environment()["code"]
    assert {
        "config/modelling.py",
        "features/panel.py",
        "features/scaling.py",
        "market/adjustment.py",
        "market/xnys_closures.json",
        "datasets/build.py",
        "storage/arrays.py",
    } <= set(code)
    apart = ("cli/", "assets/", "modelling/", "market/sources/")
    assert not [name for name in code if name.startswith(apart) or not name.endswith(("y", "json"))]
    assert all(len(digest) == 64 for digest in code.values())


def test_libraries_are_those_that_are_imported() -> None:
    assert build_environment()["libraries"]["numpy"] == np.__version__
    assert set(build_environment()["libraries"]) == {"python", *fingerprints.LIBRARIES}


def test_it_is_the_same_whenever_it_is_asked() -> None:
    assert build_environment() == build_environment()
    assert differences(build_environment(), build_environment()) == []


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a few files in the place of the real one."""
    for name in (
        "config/prices.py",
        "features/panel.py",
        "market/sources/yahoo.py",
        "market/bars.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"a = 1\nb = 2\n")
    for name in ("datasets/build.py", "storage/arrays.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(fingerprints, "_PACKAGE", tmp_path)
    monkeypatch.setattr(fingerprints, "_FETCHING", tmp_path / "market" / "sources")
    return tmp_path


def test_line_ends_do_not_count_and_every_other_byte_does(package: Path) -> None:
    before = build_environment()
    (package / "config" / "prices.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    assert build_environment() == before
    (package / "features" / "panel.py").write_bytes(b"a = 1\nb = 3\n")
    assert differences(before, build_environment()) == ["other code in features/panel.py"]


def test_new_and_lost_files_are_named_and_those_that_only_fetch_are_not(package: Path) -> None:
    before = build_environment()
    (package / "market" / "sources" / "yahoo.py").write_text("c = 3")
    (package / "market" / "bars.py").unlink()
    (package / "features" / "new.py").touch()
    assert differences(before, build_environment()) == [
        "other code in features/new.py, market/bars.py"
    ]


def test_versions_are_told_as_they_were_and_are() -> None:
    now = build_environment()
    then = copy.deepcopy(now)
    then["package"] = "0.0.9"
    then["libraries"]["numpy"] = "1.0"
    del then["libraries"]["torch"]
    told = differences(then, now)
    assert told == [
        f"stock-assets 0.0.9 then, {now['package']} now",
        f"numpy 1.0 then, {np.__version__} now",
        f"torch none then, {now['libraries']['torch']} now",
    ]


def test_plain_values_are_told_apart_whatever_the_order_of_their_keys() -> None:
    assert plain_digest({"a": 1, "b": [0.1]}) == plain_digest({"b": [0.1], "a": 1})
    assert plain_digest({"rate": 0.1}) != plain_digest({"rate": 0.2})
