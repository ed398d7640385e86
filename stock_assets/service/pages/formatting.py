"""Formats of numbers and dates; an unknown value is a dash."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pandas as pd

from stock_assets.evaluation.production_rule import PERSISTENCE_NAME, PERSISTENCE_VERSION

UNKNOWN = "–"
_PERSISTENCE = PERSISTENCE_NAME[0].upper() + PERSISTENCE_NAME[1:]
_MINUS = "\N{MINUS SIGN}"


def price(value: float | None) -> str:
    """Format a price: ``1,234.50``."""
    return UNKNOWN if _unknown(value) else f"{value:,.2f}"


def number(value: float | None, decimals: int = 3) -> str:
    """Format a plain number."""
    return UNKNOWN if _unknown(value) else _signs(f"{value:,.{decimals}f}")


def count(value: float | None) -> str:
    """Format a whole number: ``12,154``."""
    return UNKNOWN if _unknown(value) else f"{value:,.0f}"


def percent(value: float | None, decimals: int = 2) -> str:
    """Format a fraction as a percentage: ``1.28%``."""
    return UNKNOWN if _unknown(value) else _signs(f"{value:.{decimals}%}")


def change(value: float | None, decimals: int = 2) -> str:
    """Format a fraction as a signed change: ``+0.07%``; zero has no sign."""
    if value is None or _unknown(value):
        return UNKNOWN
    rounded = round(value, decimals + 2)
    return _signs(f"{rounded:+.{decimals}%}") if rounded else f"{0:.{decimals}%}"


def day(value: date | None) -> str:
    """Format a day: ``2013-03-01``."""
    return UNKNOWN if _unknown(value) else f"{value:%Y-%m-%d}"


def long_day(value: date | None) -> str:
    """Format a day in full: ``Friday 1 March 2013``."""
    return UNKNOWN if value is None or _unknown(value) else f"{value:%A} {value.day} {value:%B %Y}"


def moment(value: datetime | None) -> str:
    """Format a time in UTC: ``2013-03-01 23:30 UTC``."""
    if value is None or _unknown(value):
        return UNKNOWN
    return f"{pd.Timestamp(value).tz_convert('UTC'):%Y-%m-%d %H:%M} UTC"


def known(value: str | None) -> str:
    """Return a word, or a dash where it is unknown."""
    return UNKNOWN if value is None or value != value else value


def version(number: int | None) -> str:
    """Name a model version: ``Version 3``, or persistence; a dash where it is unknown."""
    if number is None or _unknown(number):
        return UNKNOWN
    return _PERSISTENCE if number == PERSISTENCE_VERSION else f"Version {number}"


def sessions(number_of: int) -> str:
    """Format a number of sessions: ``1 session``, ``20 sessions``."""
    return f"{number_of:,} session{'' if number_of == 1 else 's'}"


def direction(value: float | None) -> str:
    """Return the CSS class of a change as formatted: ``up``, ``down`` or ``level``."""
    if value is None or _unknown(value) or not round(value, 4):
        return "level"
    return "up" if value > 0 else "down"


def _unknown(value: Any) -> bool:
    return value is None or value is pd.NaT or value != value


def _signs(text: str) -> str:
    return text.replace("-", _MINUS)


FILTERS = {
    function.__name__: function
    for function in (
        *(price, number, count, percent, change),
        *(day, long_day, moment, known, sessions, version),
    )
} | {"direction": direction}
"""Filters of the templates."""
