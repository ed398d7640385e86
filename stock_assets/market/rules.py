"""What prices should keep: every rule by name, with how serious it is and what it means.

:mod:`stock_assets.market.checks` finds where bars break them; ingestion finds where a source's
answer breaks those of a history.
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
    """Something that prices should not do.

    Attributes
    ----------
    name : str
        What is wrong where the rule is broken.
    severity : {"error", "warning"}
        How serious that is, unless ``prices.checks.severities`` says otherwise.
    meaning : str
        The rule in one line, for people.
    """

    name: RuleName
    severity: Severity
    meaning: str


@dataclass(frozen=True)
class BarRule(Rule):
    """A rule that one bar keeps or breaks, whatever the bars around it are.

    Attributes
    ----------
    shown : tuple of str
        The columns of the bar that show what is wrong.
    watched : tuple of str
        The columns that must keep the rule: of the bar, or ``room_below`` (from the low up to the
        nearer of open and close), ``room_above`` (from there up to the high) and ``repeated``
        (whether the ticker has another bar of that session).
    kept : callable
        Takes such a column and gives a bool Series on its index, false where the rule is broken.
    """

    shown: tuple[str, ...]
    watched: tuple[str, ...]
    kept: Callable[[pd.Series], pd.Series]


def _is_finite(values: pd.Series) -> pd.Series:
    return values.abs() < np.inf


def _is_positive(values: pd.Series) -> pd.Series:
    return ~(values <= 0.0)


def _is_not_below_zero(values: pd.Series) -> pd.Series:
    return ~(values < 0.0)


def _is_counted(values: pd.Series) -> pd.Series:
    return values.between(0.0, np.inf, inclusive="left")


def _is_single(copies: pd.Series) -> pd.Series:
    return ~copies


def _is_session(days: pd.Series) -> pd.Series:
    return days.isin(pd.DatetimeIndex(calendar.sessions(*calendar.HORIZON)))


LOW_ORDER = BarRule(
    "low is above open or close",
    "error",
    "The low is the lowest price of its session.",
    shown=("open", "low", "close"),
    watched=("room_below",),
    kept=_is_not_below_zero,
)
HIGH_ORDER = BarRule(
    "high is below open or close",
    "error",
    "The high is the highest price of its session.",
    shown=("open", "high", "close"),
    watched=("room_above",),
    kept=_is_not_below_zero,
)

BAR_RULES: tuple[BarRule, ...] = (
    BarRule(
        "price is not a finite number",
        "error",
        "Open, high, low and close are finite numbers.",
        shown=PRICE_COLUMNS,
        watched=PRICE_COLUMNS,
        kept=_is_finite,
    ),
    BarRule(
        "price is not positive",
        "error",
        "Open, high, low and close are above zero.",
        shown=PRICE_COLUMNS,
        watched=PRICE_COLUMNS,
        kept=_is_positive,
    ),
    LOW_ORDER,
    HIGH_ORDER,
    BarRule(
        "volume is negative or not finite",
        "error",
        "The volume is zero or a finite number above it.",
        shown=("volume",),
        watched=("volume",),
        kept=_is_counted,
    ),
    BarRule(
        "dividend is negative or not finite",
        "error",
        "The dividend is zero or a finite amount above it.",
        shown=("dividends",),
        watched=("dividends",),
        kept=_is_counted,
    ),
    BarRule(
        "split is negative or not finite",
        "error",
        "The split is zero (none) or a finite ratio above it.",
        shown=("stock_splits",),
        watched=("stock_splits",),
        kept=_is_counted,
    ),
    BarRule(
        "ticker has two bars of one session",
        "error",
        "A ticker has one bar per session.",
        shown=("close",),
        watched=("repeated",),
        kept=_is_single,
    ),
    BarRule(
        "day is not a session of the exchange",
        "error",
        "A bar belongs to a day on which the exchange opened.",
        shown=("session",),
        watched=("session",),
        kept=_is_session,
    ),
)
"""What a bar must keep to be stored; one that does not is quarantined."""

JUMP = Rule(
    "jump without a corporate action",
    "warning",
    "From one close to the next, a share's worth changes by no more than `jump_max` once that "
    "session's split and dividend are allowed for.",
)
STALE = Rule(
    "stale repeat",
    "warning",
    "Fewer than `stale_sessions` bars in a row equal the bar before them in every price and in "
    "volume.",
)
ZERO_VOLUME = Rule("zero volume", "warning", "Shares changed hands in every session.")
NO_BAR = Rule(
    "no bar", "warning", "A ticker has a bar for every session since its first known one."
)

SERIES_RULES: tuple[Rule, ...] = (JUMP, STALE, ZERO_VOLUME, NO_BAR)
"""What the bars of a ticker usually keep; those that do not are stored and told about."""

NO_ANSWER = Rule("no answer", "warning", "A source answers for every ticker that it is asked for.")
CURRENCY_CHANGED = Rule(
    "currency changed",
    "error",
    "A source gives a ticker's prices in the currency of the stored ones.",
)
HISTORY_SHRANK = Rule(
    "history shrank",
    "warning",
    "A history that is fetched again has every session that is stored.",
)
HISTORY_REBASED = Rule(
    "history was re-based",
    "error",
    "What traded before is what traded still: closes do not change by one factor all at once.",
)

HISTORY_REPLACED = Rule(
    "history is another one",
    "error",
    "A history that is fetched again has some session that is stored.",
)

HISTORY_RULES: tuple[Rule, ...] = (
    NO_ANSWER,
    CURRENCY_CHANGED,
    HISTORY_SHRANK,
    HISTORY_REBASED,
    HISTORY_REPLACED,
)
"""What a ticker's answer must keep to join its stored bars; ingestion finds where it does not."""

RULES: tuple[Rule, ...] = (*BAR_RULES, *SERIES_RULES, *HISTORY_RULES)

RULES_OF_CHECK: dict[str, tuple[Rule, ...]] = {
    "bars_are_sound": BAR_RULES,
    "histories_agree": (
        CURRENCY_CHANGED,
        HISTORY_SHRANK,
        HISTORY_REBASED,
        HISTORY_REPLACED,
    ),
    "no_bar_is_missing": (NO_BAR, NO_ANSWER),
    "moves_are_plausible": (JUMP, STALE, ZERO_VOLUME),
}
"""Which rules each asset check of ``raw_prices`` reports."""
