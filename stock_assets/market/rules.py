"""The rules that prices keep, each with its name, severity and meaning.

:mod:`stock_assets.market.checks` finds the bars that break them;
:mod:`stock_assets.pipeline.ingestion` finds the fetched histories that do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stock_assets.config import RuleName, Severity
from stock_assets.market import calendar
from stock_assets.market.bars import PRICE_COLUMNS


@dataclass(frozen=True)
class Rule:
    """A rule of prices.

    Attributes
    ----------
    name : RuleName
        Names the violation: what is wrong where the rule is broken.
    severity : {"error", "warning"}
        Severity of a finding, unless ``prices.checks.severities`` sets another.
    meaning : str
        The requirement, in one line.
    """

    name: RuleName
    severity: Severity
    meaning: str


@dataclass(frozen=True)
class BarRule(Rule):
    """A rule that each bar keeps or breaks on its own; a bar that breaks it is not stored.

    Attributes
    ----------
    shown : tuple of str
        The columns whose values a finding reports.
    broken : callable
        Maps a bars frame to a bool Series on its index, true where the rule is broken.
    """

    shown: tuple[str, ...]
    broken: Callable[[pd.DataFrame], pd.Series]


def _invalid_amount(column: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda bars: ~bars[column].between(0.0, np.inf, inclusive="left")


def _outside_calendar(bars: pd.DataFrame) -> pd.Series:
    return ~bars["session"].isin(pd.DatetimeIndex(calendar.sessions(*calendar.SPAN)))


BAR_RULES: tuple[BarRule, ...] = (
    BarRule(
        RuleName.PRICE_NOT_FINITE,
        "error",
        "Open, high, low and close are finite numbers.",
        PRICE_COLUMNS,
        lambda bars: ~(bars[list(PRICE_COLUMNS)].abs() < np.inf).all(axis="columns"),
    ),
    BarRule(
        RuleName.PRICE_NOT_POSITIVE,
        "error",
        "Open, high, low and close are above zero.",
        PRICE_COLUMNS,
        lambda bars: (bars[list(PRICE_COLUMNS)] <= 0.0).any(axis="columns"),
    ),
    BarRule(
        RuleName.LOW_ORDER,
        "error",
        "The low is the lowest price of its session.",
        ("open", "low", "close"),
        lambda bars: bars["low"] > bars[["open", "close"]].min(axis="columns"),
    ),
    BarRule(
        RuleName.HIGH_ORDER,
        "error",
        "The high is the highest price of its session.",
        ("open", "high", "close"),
        lambda bars: bars["high"] < bars[["open", "close"]].max(axis="columns"),
    ),
    BarRule(
        RuleName.VOLUME,
        "error",
        "The volume is zero or a finite number above it.",
        ("volume",),
        _invalid_amount("volume"),
    ),
    BarRule(
        RuleName.DIVIDEND,
        "error",
        "The dividend is zero or a finite amount above it.",
        ("dividends",),
        _invalid_amount("dividends"),
    ),
    BarRule(
        RuleName.SPLIT,
        "error",
        "The split is zero (none) or a finite ratio above it.",
        ("stock_splits",),
        _invalid_amount("stock_splits"),
    ),
    BarRule(
        RuleName.REPEATED_BAR,
        "error",
        "A ticker has one bar per session.",
        ("close",),
        lambda bars: bars.duplicated(["ticker", "session"], keep=False),
    ),
    BarRule(
        RuleName.NO_SESSION,
        "error",
        "A bar belongs to a session of the exchange.",
        ("session",),
        _outside_calendar,
    ),
)
"""Rules of single bars; a bar that breaks one is quarantined and not stored."""

JUMP = Rule(
    RuleName.JUMP,
    "warning",
    "From one close to the next, a share's value changes by no more than `jump_max` after the "
    "session's split and dividend.",
)
STALE = Rule(
    RuleName.STALE,
    "warning",
    "Fewer than `stale_sessions` bars in a row equal the bar before them in every price and in "
    "volume.",
)
ZERO_VOLUME = Rule(RuleName.ZERO_VOLUME, "warning", "The volume is above zero.")
NO_BAR = Rule(
    RuleName.NO_BAR, "warning", "A ticker has a bar for every session since its first bar."
)
NO_ANSWER = Rule(RuleName.NO_ANSWER, "warning", "A source answers for every requested ticker.")
CURRENCY_CHANGED = Rule(
    RuleName.CURRENCY_CHANGED,
    "error",
    "A fetched history has the currency of the stored one.",
)
HISTORY_SHRANK = Rule(
    RuleName.HISTORY_SHRANK,
    "warning",
    "A history that is fetched again has every stored session.",
)
HISTORY_REBASED = Rule(
    RuleName.HISTORY_REBASED,
    "error",
    "The closes of a history that is fetched again do not differ from the stored ones by one "
    "factor.",
)
HISTORY_UNRELATED = Rule(
    RuleName.HISTORY_UNRELATED,
    "error",
    "A history that is fetched again has at least one stored session.",
)

RULES_OF_CHECK: dict[str, tuple[Rule, ...]] = {
    "bars_are_sound": BAR_RULES,
    "histories_agree": (CURRENCY_CHANGED, HISTORY_SHRANK, HISTORY_REBASED, HISTORY_UNRELATED),
    "no_bar_is_missing": (NO_BAR, NO_ANSWER),
    "moves_are_plausible": (JUMP, STALE, ZERO_VOLUME),
}
"""The rules that each asset check of ``raw_prices`` reports."""
