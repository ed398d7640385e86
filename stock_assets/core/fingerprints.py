"""What a dataset is made with: the code of this package, and the libraries below it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "pandas", "TA-Lib", "torch", "scikit-learn", "safetensors")
"""Distributions whose version can change a bit of a dataset or of what is trained on it."""

_PACKAGE = Path(__file__).parent.parent
_MAKERS = ("config", "datasets/build.py", "features", "market", "storage/arrays.py")
_TRAINERS = ("features", "models")
_FETCHING = _PACKAGE / "market" / "sources"  # where rows come from; the rows have their own digest
_SOURCES = {".py", ".json"}


def plain_digest(value: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def build_environment() -> dict[str, Any]:
    """Tell what a dataset made now would be made with.

    Returns
    -------
    dict
        ``package``: version of this package. ``code``: SHA-256 per source file that takes part,
        under its path in the package, the same with either kind of line end. ``libraries``:
        versions of Python and of :data:`LIBRARIES`.
    """
    return {
        "package": version("stock-assets"),
        "code": _source_digests(_MAKERS),
        "libraries": {"python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
    }


def training_code() -> str:
    """SHA-256 of the code that networks learn by: what was begun with other code is not gone on."""
    return plain_digest(_source_digests(_TRAINERS))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what differs between two :func:`build_environment`, a line each."""
    told = []
    if then["package"] != now["package"]:
        told.append(f"stock-assets {then['package']} then, {now['package']} now")
    for name in _changed(then["libraries"], now["libraries"]):
        before, after = (made["libraries"].get(name, "none") for made in (then, now))
        told.append(f"{name} {before} then, {after} now")
    changed = _changed(then["code"], now["code"])
    return [*told, f"other code in {', '.join(changed)}"] if changed else told


def _changed(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def _source_digests(makers: Iterable[str]) -> dict[str, str]:
    return {
        path.relative_to(_PACKAGE).as_posix(): _source_digest(path.read_bytes())
        for path in _source_files(makers)
    }


def _source_files(makers: Iterable[str]) -> Iterator[Path]:
    for maker in (_PACKAGE / name for name in makers):
        found = sorted(maker.rglob("*")) if maker.is_dir() else [maker]
        for path in found:
            if path.suffix in _SOURCES and _FETCHING not in path.parents:
                yield path


def _source_digest(content: bytes) -> str:
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()
