"""The custom network and feature of docs/extending.md, and projects that name them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from stock_assets.core import module_code
from stock_assets_tests.prepared import ROOT, write_project

NETWORK = "our_networks:TemporalConvolution"
FEATURE = "our_features:mean_gap"
OPTIONS: dict[str, int | float | str] = {"kernel": 3}
PARAMS = {
    "features": {"custom": [FEATURE]},
    "tuning": {
        "search_space": {
            "architecture": ["lstm", NETWORK],
            "custom": {NETWORK: {"kernel": {"low": 2, "high": 4}}},
        }
    },
}


def documented(module: str) -> str:
    """Return the code of a module on the page, or its parameters for ``network``, ``feature``."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.search(rf"^.*File `{module}\.py`.*?^```python\n(.*?)^```", page, re.DOTALL | re.M)
    assert found is not None, module
    return found[1]


def documented_module(name: str) -> ModuleType:
    """Run a module of the page."""
    module = ModuleType(name)
    exec(compile(documented(name), name, "exec"), module.__dict__)
    return module


@contextmanager
def custom_project(folder: Path, params: dict[str, dict[str, object]] = PARAMS) -> Iterator[Path]:
    """Make `folder` the project, with the modules of the page beside its parameters."""
    write_project(folder, **params)
    for name in ("our_networks", "our_features"):
        (folder / f"{name}.py").write_text(documented(name), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCK_ASSETS_PROJECT", str(folder))
        patch.setattr(sys, "path", [*sys.path])
        forget()
        try:
            yield folder
        finally:
            forget()


def forget() -> None:
    """Let custom code be imported again, as in a new process."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in module_code._imported:
            del sys.modules[name]
    module_code._imported.clear()
