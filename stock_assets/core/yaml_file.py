"""YAML files of the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from stock_assets.core.errors import StockAssetsError


def read_yaml(path: Path) -> Any:
    """Read a YAML file of the project.

    Raises
    ------
    StockAssetsError
        The file is missing, or is not YAML in UTF-8.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StockAssetsError(
            f"{path} does not exist",
            "Run from the project folder, or set STOCK_ASSETS_PROJECT to it",
        ) from None
    except UnicodeDecodeError as error:
        raise StockAssetsError(
            f"{path} is not text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}",
            "Save it again in UTF-8",
        ) from None
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise StockAssetsError(f"{path} is not valid YAML: {where}", "Fix that line") from None
