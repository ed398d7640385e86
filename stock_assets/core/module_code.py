"""Files and digests of the modules behind names of the form ``package.module:NAME``.

The code of a name is every file of its top-level module or package. A module beside ``params.yaml``
that one of these files imports belongs to it too, and so do the modules that it imports from there.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations

_SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)


@dataclass(frozen=True)
class _Module:
    """A top-level module or package.

    Attributes
    ----------
    digests : dict of str to str
        SHA-256 of each file, by its path from the folder of the package.
    paths : frozenset of str
        The same files.
    imports : frozenset of str
        Top-level modules beside ``params.yaml`` that they import.
    """

    digests: dict[str, str]
    paths: frozenset[str]
    imports: frozenset[str]


_imported: dict[str, _Module] = {}
"""What :func:`import_object` has imported, with its files as they were then."""


def is_custom(name: str) -> bool:
    """Whether a feature or a network has a name of the form ``package.module:NAME``."""
    return ":" in name


def code_digests(names: Iterable[str]) -> dict[str, str]:
    """Compute the SHA-256 of the code of each custom name; other names are left out.

    It covers the files as they were when this process imported them, or as they are if it has not.
    Nothing is imported. Line ends do not count. The digest of a module that is missing is empty.
    """
    return {name: _digest(name) for name in names if is_custom(name)}


def import_object(name: str) -> Any:
    """Import the object of a name, from an installed package or the folder of ``params.yaml``.

    Raises
    ------
    StockAssetsError
        This process has imported a part of its code that has changed since.
    Exception
        From the import. No module of this code that it has imported stays imported.
    """
    module, _, attribute = name.partition(":")
    if module not in sys.modules or _top_level(name) not in _imported:
        found, before = _code_of(name, _read), {*sys.modules}
        if any(_imported.get(part, code) != code for part, code in found.items()):
            raise StockAssetsError(
                f"the code of {name} has changed since this process imported a part of it",
                "Restart the process",
            )
        _search_project()
        try:
            importlib.import_module(module)
        except BaseException:
            for other in {*sys.modules} - before:
                if _top_level(other) in found:
                    del sys.modules[other]
            raise
        _imported.update(found)
    return getattr(sys.modules[module], attribute)


def error_place(error: BaseException, name: str) -> str:
    """Return the file and the line of the code of a name where an error was raised, or nothing."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    paths = {path for code in _code_of(name).values() for path in code.paths}
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{one.filename}, line {one.lineno}" for one in frames if one.filename in paths]
    return places[-1] if places else ""


def _top_level(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]


def _digest(name: str) -> str:
    digests = {part: code.digests for part, code in _code_of(name).items()}
    if not any(digests.values()):
        return ""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _imported_or_read(top_level: str) -> _Module:
    return _imported.get(top_level) or _read(top_level)


def _code_of(
    name: str, module_of: Callable[[str], _Module] = _imported_or_read
) -> dict[str, _Module]:
    """Find the top-level modules that the code of a name consists of."""
    found: dict[str, _Module] = {}
    missing = {_top_level(name)}
    while missing:
        found |= {part: module_of(part) for part in missing}
        missing = {other for code in found.values() for other in code.imports} - found.keys()
    return found


def _read(top_level: str) -> _Module:
    files = dict(_files_of(top_level))
    contents = {path: path.read_bytes().replace(b"\r\n", b"\n") for path in files}
    imports = {
        name
        for path, content in contents.items()
        if path.suffix in SOURCE_SUFFIXES
        for name in _imports_of(content)
    }
    others = imports - {top_level, __name__.partition(".")[0]}
    return _Module(
        {files[path]: hashlib.sha256(content).hexdigest() for path, content in contents.items()},
        frozenset(map(str, files)),
        frozenset(filter(_is_beside_params, others)),
    )


def _files_of(top_level: str) -> Iterator[tuple[Path, str]]:
    """Find the files of a module or package, with their paths from its folder."""
    file, folders = _find(top_level)
    if file is not None and not folders:
        yield file, file.name
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.name.endswith(_SUFFIXES):
                yield path, path.relative_to(folder).as_posix()


def _is_beside_params(top_level: str) -> bool:
    file, folders = _find(top_level)
    found = folders or ([] if file is None else [file])
    return any(path.resolve().parent == find_locations().project.resolve() for path in found)


def _find(top_level: str) -> tuple[Path | None, list[Path]]:
    """Find the file of a module and the folders of a package, none if it is missing."""
    importlib.invalidate_caches()
    try:
        spec = find_spec(top_level)
    except ValueError:  # of a module without a specification
        return None, []
    spec = spec or PathFinder.find_spec(top_level, [str(find_locations().project)])
    if spec is None:
        return None, []
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    return file, [*map(Path, spec.submodule_search_locations or ())]


def _imports_of(content: bytes) -> Iterator[str]:
    try:
        nodes = ast.walk(ast.parse(content))
    except (SyntaxError, ValueError):  # which the import reports
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (_top_level(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield _top_level(node.module)


def _search_project() -> None:
    """Let modules be found in the folder of ``params.yaml``, after all others."""
    project = str(find_locations().project)
    if project not in sys.path:
        sys.path.append(project)
