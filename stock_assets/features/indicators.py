"""The declared features: what there is to choose from, by group, with warm-up and provenance.

A feature is declared once and computed by the same code in training and in serving. Its formula is
TA-Lib's (the C library, with its default "classic" start of exponential averages) where TA-Lib's is
what is wanted, and one of :mod:`stock_assets.features.formulas` elsewhere. The group ``alpha158``
has a module of its own, :mod:`stock_assets.features.alpha158`.
"""

from __future__ import annotations

from collections.abc import Iterable

import talib

from stock_assets.config import FeatureGroup
from stock_assets.core.errors import StockAssetsError
from stock_assets.features import formulas
from stock_assets.features.alpha158 import ALPHA158
from stock_assets.features.feature import Feature

_CLOSE = ("close",)
_RANGE = ("high", "low")
_PRICES = ("high", "low", "close")
_TRADES = ("high", "low", "close", "volume")

_DECLARED = (
    Feature("Open", "raw", formulas.unchanged, ("open",)),
    Feature("High", "raw", formulas.unchanged, ("high",)),
    Feature("Low", "raw", formulas.unchanged, ("low",)),
    Feature("Close", "raw", formulas.unchanged, ("close",)),
    Feature("Volume", "raw", formulas.unchanged, ("volume",)),
    Feature("Dividends", "raw", formulas.unchanged, ("dividends",)),
    Feature("Stock_Splits", "raw", formulas.unchanged, ("stock_splits",), scale_free=True),
    Feature("EMA_50", "trend", talib.EMA, _CLOSE, 50, 49, depends_on_start=True),
    Feature("EMA_200", "trend", talib.EMA, _CLOSE, 200, 199, depends_on_start=True),
    Feature("SMA_50", "trend", formulas.window_mean, _CLOSE, 50, 49),
    Feature("MACD", "trend", formulas.macd, _CLOSE, 26, 25, depends_on_start=True),
    Feature("ADX", "trend", talib.ADX, _PRICES, 14, 27, depends_on_start=True, scale_free=True),
    Feature(
        "DI_Positive",
        "trend",
        talib.PLUS_DI,
        _PRICES,
        14,
        14,
        depends_on_start=True,
        scale_free=True,
    ),
    Feature(
        "DI_Negative",
        "trend",
        talib.MINUS_DI,
        _PRICES,
        14,
        14,
        depends_on_start=True,
        scale_free=True,
    ),
    # TA-Lib's defaults are Wilder's: acceleration 0.02, at most 0.2.
    Feature("PSAR", "trend", talib.SAR, _RANGE, None, 1, depends_on_start=True),
    Feature("CCI", "trend", formulas.commodity_channel_index, _PRICES, 20, 19, scale_free=True),
    Feature("RSI", "momentum", talib.RSI, _CLOSE, 14, 14, depends_on_start=True, scale_free=True),
    Feature("Stochastic_K", "momentum", formulas.stochastic_k, _PRICES, 14, 13, scale_free=True),
    Feature("Stochastic_D", "momentum", formulas.stochastic_d, _PRICES, 14, 15, scale_free=True),
    Feature("Williams_R", "momentum", formulas.williams_r, _PRICES, 14, 13, scale_free=True),
    Feature("Price_Rate_Of_Change", "momentum", talib.ROC, _CLOSE, 12, 12, scale_free=True),
    Feature("BB_High", "volatility", formulas.bollinger_high, _CLOSE, 15, 14),
    Feature("BB_Low", "volatility", formulas.bollinger_low, _CLOSE, 15, 14),
    Feature("ATR", "volatility", talib.ATR, _PRICES, 14, 14, depends_on_start=True),
    Feature("Donchian_High", "volatility", talib.MAX, ("high",), 20, 19),
    Feature("Donchian_Low", "volatility", talib.MIN, ("low",), 20, 19),
    Feature("Keltner_High", "volatility", formulas.keltner_high, _PRICES, 20, 19),
    Feature("Keltner_Low", "volatility", formulas.keltner_low, _PRICES, 20, 19),
    Feature("OBV", "volume", formulas.on_balance_volume, ("close", "volume"), 200, 200),
    Feature("MFI", "volume", formulas.money_flow_index, _TRADES, 14, 14, scale_free=True),
    Feature("VWAP", "volume", formulas.volume_weighted_price, _TRADES, 14, 13),
    Feature("Volume_SMA", "volume", formulas.window_mean, ("volume",), 20, 19),
    Feature(
        "Chaikin_Money_Flow",
        "volume",
        formulas.chaikin_money_flow,
        _TRADES,
        20,
        19,
        scale_free=True,
    ),
    Feature(
        "Force_Index",
        "volume",
        formulas.force_index,
        ("close", "volume"),
        13,
        13,
        depends_on_start=True,
    ),
    Feature(
        "Log_Return", "returns", formulas.log_change, ("close", "close"), 1, 1, scale_free=True
    ),
    Feature(
        "Log_Return_5", "returns", formulas.log_change, ("close", "close"), 5, 5, scale_free=True
    ),
    Feature(
        "Log_Return_20", "returns", formulas.log_change, ("close", "close"), 20, 20, scale_free=True
    ),
    Feature(
        "Overnight_Return", "returns", formulas.log_change, ("open", "close"), 1, 1, scale_free=True
    ),
    Feature(
        "Intraday_Return", "returns", formulas.log_change, ("close", "open"), 0, 0, scale_free=True
    ),
    Feature("High_Low_Range", "returns", formulas.log_change, _RANGE, 0, 0, scale_free=True),
    Feature("Volatility_20", "returns", formulas.volatility, _CLOSE, 20, 20, scale_free=True),
    Feature(
        "Relative_Volume_20",
        "returns",
        formulas.relative_volume,
        ("volume",),
        20,
        19,
        scale_free=True,
    ),
    *ALPHA158,
)

FEATURES: dict[str, Feature] = {feature.name: feature for feature in _DECLARED}
"""Every declared feature by name, in the order of its column wherever several are selected."""


def select(groups: Iterable[FeatureGroup]) -> tuple[str, ...]:
    """Names of the features of some groups, in declared order whatever the order of the groups.

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
            f"There is no feature group {', '.join(unknown)}",
            f"Set features.groups in params.yaml to some of: {', '.join(known)}",
        )
    return tuple(feature.name for feature in _DECLARED if feature.group in wanted)
