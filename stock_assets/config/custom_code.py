"""Networks and features of other packages, named ``package.module:NAME`` in ``params.yaml``.

Such code runs only where the parameter file of this installation names it. A model or a dataset
that was made elsewhere cannot bring any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from stock_assets.config.params import load_params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.core.module_code import code_digests, error_place, import_object, is_custom

Kind = Literal["feature", "network"]

_KEYS: dict[Kind, str] = {
    "feature": "features.custom",
    "network": "tuning.search_space.architecture",
}


def import_custom(name: str, kind: Kind) -> Any:
    """Import the object of a name, from an installed package or the folder of ``params.yaml``.

    Raises
    ------
    StockAssetsError
        ``params.yaml`` does not name it now, or it cannot be imported. Nothing is imported in the
        first case.
    """
    _require_named(name, kind)
    try:
        return import_object(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, StockAssetsError) and not error_place(error, name):
            raise
        raise custom_code_error(
            f"the {kind} {name} cannot be imported",
            error,
            name,
            f"Correct it, install its package, or correct {_KEYS[kind]}",
        ) from error


def custom_code_error(
    problem: str, error: BaseException, name: str, remedy: str
) -> StockAssetsError:
    """Describe an error that the code of a name raised, with its file and line."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    place = error_place(error, name)
    reason = f"{type(error).__name__}: {message}"
    return StockAssetsError(f"{problem}: {place}{': ' if place else ''}{reason}", remedy)


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


def require_code(recorded: Mapping[str, str], network: str, features: Iterable[str]) -> None:
    """Require that the custom code of a model is recorded, named, unchanged and importable.

    It is compared with its record before any of it is imported.

    Parameters
    ----------
    recorded : mapping of str to str
        From :func:`stock_assets.core.module_code.code_digests`, when the model was trained.
    network : str
        Its architecture.
    features : iterable of str
        The names of its features.

    Raises
    ------
    StockAssetsError
        The record has other names than the model uses, ``params.yaml`` does not name some of them,
        or the code of a name differs or cannot be imported.
    """
    kinds: dict[str, Kind] = dict.fromkeys(filter(is_custom, features), "feature")
    if is_custom(network):
        kinds[network] = "network"
    unrecorded = sorted(kinds.keys() ^ recorded.keys())
    if unrecorded:
        raise StockAssetsError(
            f"a model records other custom code than it uses: {', '.join(unrecorded)}",
            "Train a new model: stock-assets retrain",
        )
    for name, kind in kinds.items():
        _require_named(name, kind)
        if code_digests([name])[name] != recorded[name]:
            raise StockAssetsError(
                f"the code of {name} has changed since a model was trained with it",
                "Restore that code and restart, or train a new model: stock-assets retrain",
            )
    for name, kind in kinds.items():
        import_custom(name, kind)


def _require_named(name: str, kind: Kind) -> None:
    if name not in named_code(kind):
        raise StockAssetsError(
            f"{find_locations().params_file} does not name the {kind} {name}",
            f"Add it to {_KEYS[kind]} if you trust its code",
        )
