"""Where the files of a registered version are, and its number beside them."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from stock_assets.core.digests import DamagedFileError

BUNDLE_PATH = Path("artifacts") / "bundle"
"""The bundle in the folder of a version."""
_VERSION_FILE = "registered_model_meta"


def folder_in(artifacts: Path, address: str) -> Path | None:
    """Return the folder of a version in an artifacts folder, also if its address names another.

    None for the address of another kind of store.
    """
    parsed = urlsplit(address)
    if parsed.scheme not in ("", "file"):
        return None
    inside = PurePosixPath(unquote(parsed.path)).parts[-3:]  # models/ID/artifacts
    return artifacts.joinpath(*inside)


def write_version(folder: Path, model_name: str, version: int) -> None:
    """Write the number of a version beside its files, where MLflow writes it on a download.

    It is read if MLflow's database is lost.
    """
    lines = f"model_name: {json.dumps(model_name)}\nmodel_version: '{version}'\n"
    (folder / _VERSION_FILE).write_text(lines, encoding="utf-8")


def read_version(folder: Path, model_name: str) -> int | None:
    """Read the number written beside the files; None if it is missing or of another model."""
    file = folder / _VERSION_FILE
    if not file.exists():
        return None
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    return int(written["model_version"]) if written["model_name"] == model_name else None


def read_description(folder: Path) -> dict[str, Any]:
    """Read the ``MLmodel`` file in the folder of a version: its run, and the tags as metadata.

    Raises
    ------
    DamagedFileError
        It is missing or unreadable.
    """
    path = folder / "MLmodel"
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DamagedFileError(
            f"the model file {path} cannot be read: {error}", "Restore it from a backup"
        ) from None
    return described if isinstance(described, dict) else {}
