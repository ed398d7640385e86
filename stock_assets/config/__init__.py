"""Typed parameters of ``params.yaml``."""

from stock_assets.config.modelling import (
    Architecture,
    Basis,
    Dataset,
    Device,
    FeatureGroup,
    Features,
    FloatRange,
    Forecast,
    IntegerRange,
    Loss,
    Scale,
    SearchSpace,
    Target,
    Training,
    Tuning,
    WalkForward,
)
from stock_assets.config.operation import Monitoring, Promotion, Thresholds, Tracking
from stock_assets.config.params import Params, load_params
from stock_assets.config.prices import Checks, Prices, Rename, RuleName, Severity, Yahoo

__all__ = [
    "Architecture",
    "Basis",
    "Checks",
    "Dataset",
    "Device",
    "FeatureGroup",
    "Features",
    "FloatRange",
    "Forecast",
    "IntegerRange",
    "Loss",
    "Monitoring",
    "Params",
    "Prices",
    "Promotion",
    "Rename",
    "RuleName",
    "Scale",
    "SearchSpace",
    "Severity",
    "Target",
    "Thresholds",
    "Tracking",
    "Training",
    "Tuning",
    "WalkForward",
    "Yahoo",
    "load_params",
]
