"""Numbers and dates as the pages write them; nothing known is a dash."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pandas as pd

NOTHING = "–"
_MINUS = "\N{MINUS SIGN}"


def price(value: float | None) -> str:
    """Write a price: ``1,234.50``."""
    return NOTHING if _unknown(value) else f"{value:,.2f}"


def number(value: float | None, decimals: int = 3) -> str:
    """Write a plain number."""
    return NOTHING if _unknown(value) else _signs(f"{value:,.{decimals}f}")


def count(value: float | None) -> str:
    """Write a whole number: ``12,154``."""
    return NOTHING if _unknown(value) else f"{value:,.0f}"


def percent(value: float | None, decimals: int = 2) -> str:
    """Write a fraction as a percentage: ``1.28%``."""
    return NOTHING if _unknown(value) else _signs(f"{value:.{decimals}%}")


def change(value: float | None, decimals: int = 2) -> str:
    """Write a fraction as a change with its sign: ``+0.07%``; one that rounds to none has none."""
    if value is None or _unknown(value):
        return NOTHING
    rounded = round(value, decimals + 2)
    return _signs(f"{rounded:+.{decimals}%}") if rounded else f"{0:.{decimals}%}"


def day(value: date | None) -> str:
    """Write a day as in tables and addresses: ``2013-03-01``."""
    return NOTHING if _unknown(value) else f"{value:%Y-%m-%d}"


def long_day(value: date | None) -> str:
    """Write a day as in sentences: ``Friday 1 March 2013``."""
    return NOTHING if value is None or _unknown(value) else f"{value:%A} {value.day} {value:%B %Y}"


def moment(value: datetime | None) -> str:
    """Write a moment, in UTC: ``2013-03-01 23:30 UTC``."""
    if value is None or _unknown(value):
        return NOTHING
    return f"{pd.Timestamp(value).tz_convert('UTC'):%Y-%m-%d %H:%M} UTC"


def sessions(number_of: int) -> str:
    """Write a number of sessions: ``1 session``, ``20 sessions``."""
    return f"{number_of:,} session{'' if number_of == 1 else 's'}"


def direction(value: float | None) -> str:
    """Name the class of a change as :func:`change` writes it: ``up``, ``down`` or ``level``."""
    if value is None or _unknown(value) or not round(value, 4):
        return "level"
    return "up" if value > 0 else "down"


def _unknown(value: Any) -> bool:
    return value is None or value is pd.NaT or value != value


def _signs(text: str) -> str:
    return text.replace("-", _MINUS)


FILTERS = {
    written.__name__: written
    for written in (price, number, count, percent, change, day, long_day, moment, sessions)
} | {"direction": direction}
"""The functions of this module that templates know."""
