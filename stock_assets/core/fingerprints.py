"""Fingerprints of values and of the build environment: source files and library versions."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from stock_assets.core.module_code import code_digests, is_custom

LIBRARIES = ("numpy", "pandas", "TA-Lib", "torch", "scikit-learn", "safetensors")
"""Distributions whose version can change a dataset, or a model trained on it."""

_PACKAGE = Path(__file__).parent.parent
_DATASET_SOURCES = (
    "config",
    "datasets/build.py",
    "features",
    *(f"market/{name}" for name in ("adjustment.py", "bars.py", "calendar.py")),
    "market/xnys_closures.json",
    "storage/arrays.py",
)
"""Files and folders that decide a dataset, given the stored rows (which have their own digest)."""
_FORECAST_SOURCES = (
    *_DATASET_SOURCES,
    "evaluation/intervals.py",
    "models",
    "pipeline/forecasting.py",
)
"""Files and folders that decide forecasts, given a bundle and bars."""
_TRAINING_SOURCES = (
    *("features", "models"),
    *(f"evaluation/{name}.py" for name in ("intervals", "metrics", "shrinkage", "significance")),
    "pipeline/training.py",
)
"""Files and folders that decide a bundle, given a dataset and hyperparameters."""


def plain_digest(value: Any) -> str:
    """Compute the SHA-256 of plain values; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def build_environment(names: Iterable[str] = ()) -> dict[str, Any]:
    """Describe the code and the libraries that a dataset built now depends on.

    Parameters
    ----------
    names : iterable of str
        Names of features; the code of the custom ones is included.

    Returns
    -------
    dict
        ``package``: version of this package. ``code``: SHA-256 per source file in
        :data:`_DATASET_SOURCES`, by its path in the package, and per custom feature, by its name;
        line ends do not count. ``libraries``: versions of Python and of :data:`LIBRARIES`.
        ``processor``: its kind, and the newest vector instructions that NumPy uses.
    """
    return _environment(_DATASET_SOURCES, names)


def forecast_environment(names: Iterable[str] = ()) -> dict[str, Any]:
    """Describe the code and the libraries that a forecast made now depends on.

    Parameters
    ----------
    names : iterable of str
        Names of features and networks of the models; the code of the custom ones is included.

    Returns
    -------
    dict
        Like :func:`build_environment`, with the code of models.
    """
    return _environment(_FORECAST_SOURCES, names)


def custom_names(environment: Mapping[str, Any]) -> list[str]:
    """Return the custom features and networks that an environment describes."""
    return [name for name in environment["code"] if is_custom(name)]


def _environment(sources: Iterable[str], names: Iterable[str]) -> dict[str, Any]:
    return {
        "package": version("stock-assets"),
        "code": _source_digests(sources) | code_digests(names),
        "libraries": {"python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
        "processor": _processor(),
    }


def _processor() -> str:
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return " ".join([platform.machine(), *found[-1:]])


def training_code(names: Iterable[str] = ()) -> str:
    """Compute the SHA-256 of the code that trains networks.

    Studies and checkpoints are resumed only by the same code.

    Parameters
    ----------
    names : iterable of str
        Names of networks and features; the code of the custom ones is included.
    """
    return plain_digest(_source_digests(_TRAINING_SOURCES) | code_digests(names))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe the differences between two :func:`build_environment`, one line each."""
    lines = []
    if then["package"] != now["package"]:
        lines.append(f"stock-assets {then['package']} then, {now['package']} now")
    for name in _changed(then["libraries"], now["libraries"]):
        before, after = (built["libraries"].get(name, "none") for built in (then, now))
        lines.append(f"{name} {before} then, {after} now")
    before, after = then.get("processor"), now.get("processor")
    if before != after and before is not None:  # earlier versions did not record it
        lines.append(f"processor {before} then, {after} now")
    changed = _changed(then["code"], now["code"])
    return [*lines, f"code changed in {', '.join(changed)}"] if changed else lines


def _changed(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def _source_digests(sources: Iterable[str]) -> dict[str, str]:
    return {
        path.relative_to(_PACKAGE).as_posix(): _source_digest(path.read_bytes())
        for source in sources
        for path in (*(_PACKAGE / source).rglob("*.py"), _PACKAGE / source)
        if path.is_file()
    }


def _source_digest(content: bytes) -> str:
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()
