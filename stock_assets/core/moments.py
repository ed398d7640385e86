"""Moments as text: a date, a time and a zone."""

from __future__ import annotations

from datetime import UTC, datetime

from stock_assets.core.errors import StockAssetsError


def parse_moment(text: str) -> datetime:
    """Return a moment in UTC.

    Parameters
    ----------
    text : str
        ISO 8601, with a time zone: 2026-11-30T21:00:00Z. Without one it could be any of 24 hours.

    Raises
    ------
    StockAssetsError
        It is not such a text.
    """
    remedy = "Write it as 2026-11-30T21:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
        known = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise StockAssetsError(f"{text!r} is not a date with a time", remedy) from None
    if moment.tzinfo is None:
        raise StockAssetsError(f"{text!r} has no time zone", remedy)
    return known


def write_moment(moment: datetime) -> str:
    """Return the text of a moment that :func:`parse_moment` reads, to the microsecond."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
