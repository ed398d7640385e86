"""Trading sessions of the New York Stock Exchange (XNYS), as plain dates.

The calendar is the file ``xnys_closures.json``: the same in every process, without a heavy import,
changed only by commits. ``python -m stock_assets.market.calendar`` writes it from the package
``exchange_calendars``. A day or a result outside ``SPAN`` is a ``StockAssetsError``.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from stock_assets.core.errors import StockAssetsError

EXCHANGE = "XNYS"
SPAN: tuple[date, date] = (date(1990, 1, 1), date(2035, 12, 31))
TIMEZONE = "America/New_York"
SETTLING_TIME = timedelta(minutes=15)
"""Time after a session's close in which its bar may still change."""

_FILE = Path(__file__).with_name("xnys_closures.json")
_OPEN = time(9, 30)
_REGULAR_CLOSE = time(16)
_WIDEN = (
    "Widen SPAN in stock_assets/market/calendar.py and run `python -m stock_assets.market.calendar`"
)


def closures(first: date, last: date) -> list[date]:
    """Weekdays from ``first`` to ``last``, both included, on which the exchange does not open."""
    return _between(_calendar().closures, first, last)


def sessions(first: date, last: date) -> list[date]:
    """Sessions from ``first`` to ``last``, both included, in order."""
    return _between(_calendar().sessions, first, last)


def is_session(day: date) -> bool:
    """Whether the exchange opens on ``day``."""
    days = _calendar().sessions
    position = bisect_left(days, _in_span(day))
    return position < len(days) and days[position] == day


def next_session(day: date, count: int = 1) -> date:
    """Return the ``count``-th session strictly after ``day``; ``count`` is at least 1."""
    after = bisect_right(_calendar().sessions, _in_span(day))
    return _session_at(after + _at_least_one(count) - 1)


def next_sessions(day: date, count: int) -> list[date]:
    """Return the ``count`` sessions strictly after ``day``, in order; ``count`` is at least 1."""
    return sessions(next_session(day), next_session(day, count))


def previous_session(day: date, count: int = 1) -> date:
    """Return the ``count``-th session strictly before ``day``; ``count`` is at least 1."""
    return _session_at(bisect_left(_calendar().sessions, _in_span(day)) - _at_least_one(count))


def last_session_on_or_before(day: date) -> date:
    """Return ``day`` if it is a session, else the nearest session before it."""
    return _session_at(bisect_right(_calendar().sessions, _in_span(day)) - 1)


def first_session_on_or_after(day: date) -> date:
    """Return ``day`` if it is a session, else the nearest session after it."""
    return _session_at(bisect_left(_calendar().sessions, _in_span(day)))


def require_session(day: date) -> date:
    """Return ``day`` if it is a session.

    Raises
    ------
    StockAssetsError
        ``day`` is not a session, or lies outside ``SPAN``.
    """
    if is_session(day):
        return day
    before, after = last_session_on_or_before(day), first_session_on_or_after(day)
    raise StockAssetsError(
        f"{day} is not a trading session of {EXCHANGE} (the nearest are {before} and {after})",
        "Choose a trading day",
    )


def open_time(session: date) -> datetime:
    """Return the time, with its zone, at which trading begins: 9:30 New York.

    Raises
    ------
    StockAssetsError
        ``session`` is not a session of the exchange.
    """
    return datetime.combine(require_session(session), _OPEN, tzinfo=ZoneInfo(TIMEZONE))


def close_time(session: date) -> datetime:
    """Return the time, with its zone, at which trading ends: 16:00 New York, or earlier.

    Raises
    ------
    StockAssetsError
        ``session`` is not a session of the exchange.
    """
    clock = _calendar().early_closes.get(require_session(session), _REGULAR_CLOSE)
    return datetime.combine(session, clock, tzinfo=ZoneInfo(TIMEZONE))


def last_closed_session(now: datetime) -> date:
    """Return the newest session whose bar is final at a time.

    Parameters
    ----------
    now : datetime
        The time, with its zone.
    """
    session = last_session_on_or_before(now.astimezone(ZoneInfo(TIMEZONE)).date())
    if now < close_time(session) + SETTLING_TIME:
        return previous_session(session)
    return session


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class _Calendar:
    """The content of the file and the sessions it implies, in date order."""

    sessions: tuple[date, ...]
    closures: tuple[date, ...]
    early_closes: dict[date, time]


@cache
def _calendar() -> _Calendar:
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    if [day.isoformat() for day in SPAN] != [content["first_day"], content["last_day"]]:
        raise StockAssetsError(
            f"{_FILE.name} covers {content['first_day']} to {content['last_day']}, "
            f"not {SPAN[0]} to {SPAN[1]}",
            "Run `python -m stock_assets.market.calendar`",
        )
    closed = tuple(date.fromisoformat(day) for day in content["closures"])
    early = {
        date.fromisoformat(day): time.fromisoformat(clock)
        for day, clock in content["early_closes"].items()
    }
    closed_days = frozenset(closed)
    opened = tuple(day for day in _weekdays() if day not in closed_days)
    return _Calendar(opened, closed, early)


def _weekdays() -> list[date]:
    first, last = SPAN
    days = map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))
    return [day for day in days if day.weekday() < 5]


def _between(days: tuple[date, ...], first: date, last: date) -> list[date]:
    start, stop = bisect_left(days, _in_span(first)), bisect_right(days, _in_span(last))
    return list(days[start:stop])


def _in_span(day: date) -> date:
    if not SPAN[0] <= day <= SPAN[1]:
        raise StockAssetsError(
            f"{day} lies outside the calendar of {EXCHANGE}, which covers {SPAN[0]} to {SPAN[1]}",
            _WIDEN,
        )
    return day


def _session_at(position: int) -> date:
    days = _calendar().sessions
    if not 0 <= position < len(days):
        raise StockAssetsError(
            f"the session lies outside the calendar of {EXCHANGE}, "
            f"which covers {SPAN[0]} to {SPAN[1]}",
            _WIDEN,
        )
    return days[position]


def _at_least_one(count: int) -> int:
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    return count


def frozen_content() -> dict[str, object]:
    """Compute the content of the file from ``exchange_calendars``.

    Returns
    -------
    dict
        ``exchange``, ``source``, ``first_day`` and ``last_day`` of ``SPAN``, ``closures`` (the
        weekdays without a session) and ``early_closes`` (session to New York time), as ISO text.
    """
    import exchange_calendars

    first, last = SPAN
    source = exchange_calendars.get_calendar(EXCHANGE, start=first, end=last)
    opened = {stamp.date() for stamp in source.sessions}
    closes = {stamp.date(): close.tz_convert(TIMEZONE) for stamp, close in source.closes.items()}
    return {
        "exchange": EXCHANGE,
        "source": "exchange_calendars",
        "first_day": first.isoformat(),
        "last_day": last.isoformat(),
        "closures": [day.isoformat() for day in _weekdays() if day not in opened],
        "early_closes": {
            day.isoformat(): close.strftime("%H:%M")
            for day, close in closes.items()
            if close.time() != _REGULAR_CLOSE
        },
    }


if __name__ == "__main__":
    _FILE.write_text(json.dumps(frozen_content(), indent=1) + "\n", encoding="utf-8")
