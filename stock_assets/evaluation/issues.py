"""How forecasts are issued: before their target session opens, or afterwards, and why."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any

import pandas as pd

from stock_assets.market.calendar import open_time


class Issued(StrEnum):
    """When a forecast was issued: before its target session opened, or afterwards."""

    LIVE = "live"
    BACKFILLED = "backfilled"


_TEXTS = {Issued.LIVE: "issued live", Issued.BACKFILLED: "backfilled"}


class Reason(StrEnum):
    """Why forecasts were issued.

    `SCHEDULED` and `BACKFILL` say how the run was started. `RERUN`: the model version had forecast
    them before, with another result. `ROLLBACK`: it had, and another version has since.
    """

    SCHEDULED = "scheduled"
    BACKFILL = "backfill"
    RERUN = "rerun"
    ROLLBACK = "rollback"


def issued_as(issued_at: datetime, target_session: date) -> Issued:
    """Return whether a forecast of a session was issued before the session opened.

    Parameters
    ----------
    issued_at : datetime
        With its zone.
    target_session : date
    """
    return Issued.LIVE if issued_at < open_time(target_session) else Issued.BACKFILLED


def count_backfilled(rows: pd.DataFrame) -> int:
    """Count the forecasts, by their column ``issued``, that are not known to be live."""
    return int((rows["issued"] != Issued.LIVE).sum())


def issued_text(issued: pd.Series[Any]) -> str:
    """Describe how forecasts were issued: ``backfilled``, or ``3 issued live, 2 backfilled``."""
    texts = issued.map(_TEXTS).fillna("not known whether live")
    counts = texts.value_counts().sort_index(ascending=False)
    if len(counts) == 1:
        return str(counts.index[0])
    return ", ".join(f"{count} {text}" for text, count in counts.items())
