"""Drift of the inputs: all, and the newest of the version in production."""

from __future__ import annotations

from datetime import date
from operator import eq, ge, le

from sqlalchemy import Engine, func, select

from stock_assets.storage.serving.paging import Position, Row, conditions, read_page, read_rows
from stock_assets.storage.serving.production import version_in_force
from stock_assets.storage.tables import feature_drift

DRIFT_ORDER = ("as_of_session", "model_version", "feature")
"""Order of drift; the newest session first."""

_MEASURED = feature_drift.c


def list_drift(
    engine: Engine,
    model_version: int | None,
    first: date | None,
    last: date | None,
    size: int,
    after: Position | None = None,
) -> list[Row]:
    """List the drift of each feature as of `first` to `last`, the newest session first."""
    session, *others = (_MEASURED[name] for name in DRIFT_ORDER)
    chosen = conditions(
        (_MEASURED.model_version, eq, model_version), (session, ge, first), (session, le, last)
    )
    query = select(feature_drift).where(*chosen)
    return read_page(engine, query, [session.desc(), *others], size, after)


def newest_drift(engine: Engine, model_name: str) -> list[Row]:
    """Read the newest drift of the version in production, the strongest first."""
    production = version_in_force(model_name).scalar_subquery()
    newest = select(func.max(_MEASURED.as_of_session)).where(_MEASURED.model_version == production)
    query = (
        select(feature_drift)
        .where(
            _MEASURED.model_version == production,
            _MEASURED.as_of_session == newest.scalar_subquery(),
        )
        .order_by(_MEASURED.psi.desc(), _MEASURED.feature)
    )
    return read_rows(engine, query)
