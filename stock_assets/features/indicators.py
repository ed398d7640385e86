"""The declared features, by group.

Training and serving compute a feature with the same code. Its formula is TA-Lib's (the C library,
with its "classic" start of exponential averages) or one of :mod:`stock_assets.features.formulas`.
Group ``alpha158`` is declared in :mod:`stock_assets.features.alpha158`.
"""

from __future__ import annotations

from collections.abc import Iterable

import talib

from stock_assets.config import FeatureGroup, Features
from stock_assets.config.custom_code import import_custom
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.module_code import is_custom
from stock_assets.features import formulas as f
from stock_assets.features.alpha158 import ALPHA158
from stock_assets.features.feature import Feature

_CLOSE = ("close",)
_CC = ("close", "close")
_HL = ("high", "low")
_HLC = ("high", "low", "close")
_HLCV = ("high", "low", "close", "volume")

_DECLARED = (
    Feature("Open", "raw", f.identity, ("open",)),
    Feature("High", "raw", f.identity, ("high",)),
    Feature("Low", "raw", f.identity, ("low",)),
    Feature("Close", "raw", f.identity, ("close",)),
    Feature("Volume", "raw", f.identity, ("volume",)),
    Feature("Dividends", "raw", f.identity, ("dividends",)),
    Feature("Stock_Splits", "raw", f.identity, ("stock_splits",), scale_free=True),
    Feature("EMA_50", "trend", talib.EMA, _CLOSE, 50, 49, recursive=True),
    Feature("EMA_200", "trend", talib.EMA, _CLOSE, 200, 199, recursive=True),
    Feature("SMA_50", "trend", f.rolling_mean, _CLOSE, 50, 49),
    Feature("MACD", "trend", f.macd, _CLOSE, 26, 25, recursive=True),
    Feature("ADX", "trend", talib.ADX, _HLC, 14, 27, recursive=True, scale_free=True),
    Feature("DI_Positive", "trend", talib.PLUS_DI, _HLC, 14, 14, recursive=True, scale_free=True),
    Feature("DI_Negative", "trend", talib.MINUS_DI, _HLC, 14, 14, recursive=True, scale_free=True),
    # TA-Lib's defaults are Wilder's: acceleration 0.02, maximum 0.2.
    Feature("PSAR", "trend", talib.SAR, _HL, None, 1, recursive=True),
    Feature("CCI", "trend", f.commodity_channel_index, _HLC, 20, 19, scale_free=True),
    Feature("RSI", "momentum", talib.RSI, _CLOSE, 14, 14, recursive=True, scale_free=True),
    Feature("Stochastic_K", "momentum", f.stochastic_k, _HLC, 14, 13, scale_free=True),
    Feature("Stochastic_D", "momentum", f.stochastic_d, _HLC, 14, 15, scale_free=True),
    Feature("Williams_R", "momentum", f.williams_r, _HLC, 14, 13, scale_free=True),
    Feature("Price_Rate_Of_Change", "momentum", talib.ROC, _CLOSE, 12, 12, scale_free=True),
    Feature("BB_High", "volatility", f.bollinger_high, _CLOSE, 15, 14),
    Feature("BB_Low", "volatility", f.bollinger_low, _CLOSE, 15, 14),
    Feature("ATR", "volatility", talib.ATR, _HLC, 14, 14, recursive=True),
    Feature("Donchian_High", "volatility", talib.MAX, ("high",), 20, 19),
    Feature("Donchian_Low", "volatility", talib.MIN, ("low",), 20, 19),
    Feature("Keltner_High", "volatility", f.keltner_high, _HLC, 20, 19),
    Feature("Keltner_Low", "volatility", f.keltner_low, _HLC, 20, 19),
    Feature("OBV", "volume", f.on_balance_volume, ("close", "volume"), 200, 200),
    Feature("MFI", "volume", f.money_flow_index, _HLCV, 14, 14, scale_free=True),
    Feature("VWAP", "volume", f.volume_weighted_price, _HLCV, 14, 13),
    Feature("Volume_SMA", "volume", f.rolling_mean, ("volume",), 20, 19),
    Feature("Chaikin_Money_Flow", "volume", f.chaikin_money_flow, _HLCV, 20, 19, scale_free=True),
    Feature("Force_Index", "volume", f.force_index, ("close", "volume"), 13, 13, recursive=True),
    Feature("Log_Return", "returns", f.log_ratio, _CC, 1, 1, scale_free=True),
    Feature("Log_Return_5", "returns", f.log_ratio, _CC, 5, 5, scale_free=True),
    Feature("Log_Return_20", "returns", f.log_ratio, _CC, 20, 20, scale_free=True),
    Feature("Overnight_Return", "returns", f.log_ratio, ("open", "close"), 1, 1, scale_free=True),
    Feature("Intraday_Return", "returns", f.log_ratio, ("close", "open"), 0, 0, scale_free=True),
    Feature("High_Low_Range", "returns", f.log_ratio, _HL, 0, 0, scale_free=True),
    Feature("Volatility_20", "returns", f.volatility, _CLOSE, 20, 20, scale_free=True),
    Feature(
        "Relative_Volume_20", "returns", f.relative_volume, ("volume",), 20, 19, scale_free=True
    ),
    *ALPHA158,
)

FEATURES: dict[str, Feature] = {feature.name: feature for feature in _DECLARED}
"""All built-in features by name. Selected columns follow this order."""


def find_feature(name: str) -> Feature:
    """Return a built-in feature by name, or import a custom one.

    Raises
    ------
    StockAssetsError
        It is not declared, or ``params.yaml`` does not name the custom feature.
    """
    if name in FEATURES:
        return FEATURES[name]
    if not is_custom(name):
        raise StockAssetsError(
            f"there is no feature {name}", f"Declared features: {', '.join(FEATURES)}"
        )
    found = import_custom(name, "feature")
    if not isinstance(found, Feature):
        raise StockAssetsError(
            f"{name} is no feature",
            "Decorate the function with custom_feature, see docs/extending.md",
        )
    if found.name != name:
        raise StockAssetsError(
            f"{name} is defined as {found.name}",
            "Name it so in params.yaml, because a model records the code of that module",
        )
    return found


def chosen_features(features: Features) -> tuple[str, ...]:
    """Return the names of the features that the parameters choose, custom ones last."""
    return (*select(features.groups), *dict.fromkeys(features.custom))


def select(groups: Iterable[FeatureGroup]) -> tuple[str, ...]:
    """Return the names of the features of `groups`, in declared order.

    Raises
    ------
    StockAssetsError
        A group does not exist.
    """
    wanted = set(groups)
    known = list(dict.fromkeys(feature.group for feature in _DECLARED))
    unknown = sorted(wanted.difference(known))
    if unknown:
        raise StockAssetsError(
            f"there is no feature group {', '.join(unknown)}",
            f"Set features.groups in params.yaml to some of: {', '.join(known)}",
        )
    return tuple(feature.name for feature in _DECLARED if feature.group in wanted)


def price_columns(name: str, basis: str) -> tuple[str, ...]:
    """Return the columns of a bar that a feature depends on: its inputs, and what adjusts them."""
    adjusting: dict[str, tuple[str, ...]] = {
        "raw": (),
        "split_adjusted": ("stock_splits",),
        "adjusted": ("dividends", "stock_splits"),
    }
    return tuple(dict.fromkeys((*find_feature(name).inputs, *adjusting[basis])))
