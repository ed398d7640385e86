"""Freshness of the data, and the revision of the schema."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Engine, func, select, text

from stock_assets.storage.tables import (
    model_performance_log,
    predictions,
    quarantined_bars,
    raw_stock_data,
    retraining_decisions,
)


@dataclass(frozen=True)
class StoredFreshness:
    """The newest stored data; None where there is none."""

    newest_session: date | None
    fetched_at: datetime | None
    newest_forecast: date | None
    newest_target: date | None
    newest_score: date | None
    newest_decision: date | None
    quarantined_bars: int


def read_freshness(engine: Engine) -> StoredFreshness:
    """Read the newest session of bars, forecasts, scores and decisions, each from an index.

    ``fetched_at`` is the time of the latest bar of the newest session; ``newest_forecast`` an
    as-of session; ``newest_target`` the furthest session forecast; ``quarantined_bars`` the number
    of bars in quarantine.
    """
    bars, quarantine = raw_stock_data.c, quarantined_bars.c
    newest_session = select(func.max(bars.session)).scalar_subquery()
    parts = {
        "newest_session": select(func.max(bars.session)),
        "fetched_at": select(func.max(bars.fetched_at)).where(bars.session == newest_session),
        "newest_forecast": select(func.max(predictions.c.as_of_session)),
        "newest_target": select(func.max(predictions.c.target_session)),
        "newest_score": select(func.max(model_performance_log.c.session)),
        "newest_decision": select(func.max(retraining_decisions.c.session)),
        "quarantined_bars": select(func.count()).where(quarantine.released_at.is_(None)),
    }
    query = select(*(part.scalar_subquery().label(name) for name, part in parts.items()))
    with engine.connect() as connection:
        return StoredFreshness(**connection.execute(query).mappings().one())


def schema_revision(engine: Engine) -> str | None:
    """Read the Alembic revision of the tables; None before the first migration."""
    with engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return None
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found
