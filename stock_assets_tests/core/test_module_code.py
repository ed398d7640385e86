"""The digest of custom code is that of the files that run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import stock_assets
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.module_code import code_digests, import_object
from stock_assets_tests.custom_code import FEATURE, NETWORK, custom_project, forget


@pytest.fixture
def project(tmp_path: Path):
    with custom_project(tmp_path / "custom") as folder:
        yield folder


def change(file: Path) -> None:
    file.write_text(f"{file.read_text()}# changed\n")


def test_digests_follow_the_code_but_not_its_line_ends(project: Path) -> None:
    before, file = code_digests(["lstm", NETWORK]), project / "our_networks.py"
    assert list(before) == [NETWORK]
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert code_digests([NETWORK]) == before
    change(file)
    assert code_digests([NETWORK]) != before


@pytest.mark.parametrize("name", ["missing:Network", "missing.inside:Network", "sys:Network"])
def test_the_digest_of_a_module_without_a_file_is_empty(project: Path, name: str) -> None:
    assert code_digests([name]) == {name: ""}


def test_the_digest_is_of_the_code_that_was_imported(project: Path) -> None:
    file, name = project / "our_code.py", "our_code:value"
    file.write_text("value = 1\n")
    assert import_object(name) == 1
    imported = code_digests([name])
    file.write_text("value = 200\n")
    assert import_object(name) == 1
    assert code_digests([name]) == imported
    forget()
    assert code_digests([name]) != imported
    assert import_object(name) == 200


def test_an_import_that_fails_is_repeated_from_the_files_of_then(project: Path) -> None:
    file, name = project / "our_code.py", "our_code:value"
    (project / "our_helper.py").write_text("value = 1\n")
    file.write_text("from our_helper import missing as value\n")
    with pytest.raises(ImportError):
        import_object(name)
    (project / "our_helper.py").write_text("missing = 200\n")
    expected = code_digests([name])
    assert import_object(name) == 200
    assert code_digests([name]) == expected


def package(project: Path) -> Path:
    """Write a package of which `our_package.inside.layers` uses a module beside it."""
    folder = project / "our_package"
    (folder / "inside").mkdir(parents=True)
    ran = f"open({str(project / 'ran')!r}, 'w')\n"
    (folder / "__init__.py").write_text(ran)
    (folder / "other.py").write_text("value = 3\n")
    (folder / "inside" / "__init__.py").write_text(ran)
    (folder / "inside" / "layers.py").write_text("def late():\n    import our_helper\n")
    (project / "our_helper.py").write_text("import our_second, torch\n")
    (project / "our_second.py").write_text("value = 2\n")
    return folder


LAYERS = "our_package.inside.layers:late"


def test_a_digest_imports_nothing(project: Path) -> None:
    package(project)
    before = {*sys.modules}, [*sys.path]
    assert code_digests([LAYERS])[LAYERS]
    assert ({*sys.modules}, [*sys.path]) == before
    assert not (project / "ran").exists()


@pytest.mark.parametrize(
    "changed",
    ["our_package/__init__.py", "our_package/other.py", "our_helper.py", "our_second.py"],
)
def test_digests_cover_the_package_and_the_modules_beside_the_parameters_that_it_imports(
    project: Path, changed: str
) -> None:
    package(project)
    before = code_digests([LAYERS])
    change(project / "our_networks.py")
    assert code_digests([LAYERS]) == before
    change(project / changed)
    assert code_digests([LAYERS]) != before


def test_a_folder_without_init_is_a_package(project: Path) -> None:
    (package(project) / "__init__.py").unlink()
    before = code_digests([LAYERS])
    change(project / "our_package" / "inside" / "layers.py")
    assert code_digests([LAYERS]) != before


def test_a_later_import_needs_the_files_of_the_first_one(project: Path) -> None:
    folder = package(project)
    (folder / "__init__.py").write_text("")
    import_object("our_package:__name__")
    change(folder / "other.py")
    with pytest.raises(StockAssetsError, match="since this process imported a part of it"):
        import_object("our_package.other:value")
    assert "our_package.other" not in sys.modules


def test_code_of_this_package_is_not_covered(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_digests([FEATURE])
    monkeypatch.syspath_prepend(project)
    monkeypatch.setenv("STOCK_ASSETS_PROJECT", str(Path(stock_assets.__file__).parents[1]))
    assert code_digests([FEATURE]) == before
