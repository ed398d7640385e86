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


class Role(StrEnum):
    """What a forecast is for."""

    PRODUCTION = "production"
    """It is shown, and monitoring rests on it."""
    SHADOW = "shadow"
    """It only decides between its model and production."""


class Reason(StrEnum):
    """Why a forecast was issued.

    The first forecast of a ticker as of a session: how the run was started. Any later one: what
    differs from the issue before it, as far as both are known; the first that applies.
    """

    SCHEDULED = "scheduled"
    """A schedule or sensor started the run."""
    BACKFILL = "backfill"
    """The run covers a range of sessions."""
    MANUAL = "manual"
    """A person started the run for one session."""

    MODEL = "model"
    """Another model version had issued the one before."""
    ROLLBACK = "rollback"
    """As `MODEL`, and this version had issued an earlier one."""
    REVISION = "revision"
    """Prices or actions up to the as-of session have changed or arrived since."""
    PARAMETERS = "parameters"
    """The parameters in force have changed, the universe included."""
    ENVIRONMENT = "environment"
    """The code, the libraries or the device have changed."""
    RERUN = "rerun"
    """No recorded fact differs."""


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
