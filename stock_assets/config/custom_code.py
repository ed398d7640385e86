"""Networks and features of other packages, named ``package.module:NAME`` in ``params.yaml``.

Such code runs only where the parameter file of this installation names it. A model or a dataset
that was made elsewhere cannot bring any.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from stock_assets.config.params import load_params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations

Kind = Literal["feature", "network"]

_KEYS: dict[Kind, str] = {
    "feature": "features.custom",
    "network": "tuning.search_space.architecture",
}


def is_custom(name: str) -> bool:
    """Whether a feature or a network has a name of the form ``package.module:NAME``."""
    return ":" in name


@cache
def import_custom(name: str, kind: Kind) -> Any:
    """Import the object of a name, from an installed package or the folder of ``params.yaml``.

    Raises
    ------
    StockAssetsError
        ``params.yaml`` does not name it, or it cannot be imported. Nothing is imported in the first
        case.
    """
    if name not in named_code(kind):
        raise StockAssetsError(
            f"{find_locations().params_file} does not name the {kind} {name}",
            f"Add it to {_KEYS[kind]} if you trust its code",
        )
    module, _, attribute = name.partition(":")
    _search_project()
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise StockAssetsError(
            f"the {kind} {name} cannot be imported: {error}",
            f"Install its package, or correct {_KEYS[kind]}",
        ) from None


def named_code(kind: Kind) -> tuple[str, ...]:
    """Return the names of custom code in the parameter file; none where there is no such file."""
    path = find_locations().params_file
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return _named(path, found.st_mtime_ns, found.st_size)[kind]


@lru_cache(maxsize=4)
def _named(path: Path, *_: int) -> dict[Kind, tuple[str, ...]]:
    params = load_params(path)
    return {
        "feature": tuple(params.features.custom),
        "network": tuple(filter(is_custom, params.tuning.search_space.architecture)),
    }


def code_digests(names: Iterable[str]) -> dict[str, str]:
    """Compute the SHA-256 of the module of each custom name; line ends do not count.

    Modules are found, not run. The digest of one that is not there is empty. Other names are left
    out.
    """
    _search_project()
    return {name: _module_digest(name.partition(":")[0]) for name in names if is_custom(name)}


def require_code(recorded: Mapping[str, str], network: str) -> None:
    """Require that the custom code of a model is named, importable and the recorded one.

    Parameters
    ----------
    recorded : mapping of str to str
        From :func:`code_digests`, when the model was trained.
    network : str
        Its architecture; the other names are features.

    Raises
    ------
    StockAssetsError
        ``params.yaml`` does not name some of it, or the module of a name is another one.
    """
    for name, digest in recorded.items():
        import_custom(name, "network" if name == network else "feature")
        if code_digests([name])[name] != digest:
            raise StockAssetsError(
                f"the code of {name} has changed since a model was trained with it",
                "Restore that code, or train a new model: stock-assets retrain",
            )


def _module_digest(module: str) -> str:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # of the package
        return ""
    if found is None or found.origin is None:
        return ""
    content = Path(found.origin).read_bytes()
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def _search_project() -> None:
    """Let modules be found in the folder of ``params.yaml``, after all others."""
    project = str(find_locations().project)
    if project not in sys.path:
        sys.path.append(project)
