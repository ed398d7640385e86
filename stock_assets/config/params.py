"""All of ``params.yaml``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from stock_assets.config.modelling import (
    Dataset,
    Features,
    Forecast,
    Training,
    Tuning,
    WalkForward,
)
from stock_assets.config.operation import Monitoring, Promotion, Schedule, Tracking
from stock_assets.config.prices import Prices
from stock_assets.config.section import Section
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.yaml_file import read_yaml


class Params(Section):
    """The parameters, one field per section."""

    prices: Prices = Field(default_factory=Prices)
    features: Features = Field(default_factory=Features)
    dataset: Dataset = Field(default_factory=Dataset)
    tuning: Tuning = Field(default_factory=Tuning)
    training: Training = Field(default_factory=Training)
    walk_forward: WalkForward = Field(default_factory=WalkForward)
    forecast: Forecast = Field(default_factory=Forecast)
    monitoring: Monitoring = Field(default_factory=Monitoring)
    promotion: Promotion = Field(default_factory=Promotion)
    schedule: Schedule = Field(default_factory=Schedule)
    tracking: Tracking = Field(default_factory=Tracking)


_RENAMED = {
    "monitoring.thresholds.mase_max": "monitoring.thresholds.relative_mae_max",
    "promotion.metric: mase": "promotion.metric: relative_mae",
    "forecast.coverage": "forecast.coverages, a list",
    "prices.checks.severities.history is another one": "history is unrelated",
}
"""Renamed keys and values of earlier versions."""

_REMOVED = {
    "monitoring.minimum_forecasts": "Remove it, and monitoring.thresholds, which are hard limits "
    "over five sessions now; monitoring.sessions_between_false_alarms bounds false alarms",
}
"""Removed keys of earlier versions, and what replaced them."""


def load_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises
    ------
    StockAssetsError
        The file is missing, is not YAML, or has an unknown key or an invalid value; the message
        names the key.
    """
    content = read_yaml(path)
    try:
        return Params.model_validate(content or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]).removesuffix(".[key]") or "the file"
        old = next((name for name in (key, f"{key}: {first['input']}") if name in _RENAMED), None)
        if old is not None:
            raise StockAssetsError(f"{path}: {old} was renamed", f"Write {_RENAMED[old]}") from None
        if key in _REMOVED:
            raise StockAssetsError(f"{path}: {key} was removed", _REMOVED[key]) from None
        unknown_key = first["type"] == "extra_forbidden" or isinstance(first["input"], dict)
        value = "" if unknown_key else f" (got {first['input']!r})"
        problem = first["msg"].removeprefix("Value error, ")
        raise StockAssetsError(
            f"{path}: {key}: {problem}{value}",
            "Correct this key; docs/configuration.md lists all of them",
        ) from None
