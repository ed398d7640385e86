"""The origin of a forecast: its row, its outcome and the raw bars in its window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Engine, distinct, func, select, tuple_

from stock_assets.storage.roles import of_production
from stock_assets.storage.serving.paging import Row, read_rows
from stock_assets.storage.tables import (
    model_performance_log,
    predictions,
    price_revisions,
    raw_stock_data,
)

_BARS = raw_stock_data.c


@dataclass(frozen=True)
class Span:
    """Sessions of one ticker, both ends included."""

    ticker: str
    first: date
    last: date


def find_forecast(
    engine: Engine, as_of_session: date, ticker: str, horizon: int, model_version: int | None
) -> Row | None:
    """Read a forecast; without a version, the latest one that is not of a model in shadow."""
    made = predictions.c
    query = (
        select(predictions)
        .where(made.as_of_session == as_of_session, made.ticker == ticker, made.horizon == horizon)
        .order_by(made.predicted_at.desc(), made.model_version.desc())
        .limit(1)
    )
    chosen = of_production(made) if model_version is None else made.model_version == model_version
    return next(iter(read_rows(engine, query.where(chosen))), None)


def find_outcome(engine: Engine, forecast: Mapping[str, Any]) -> Row | None:
    """Read the scored forecast; None until it is scored."""
    scored = model_performance_log.c
    query = select(model_performance_log).where(
        scored.session == forecast["target_session"],
        scored.ticker == forecast["ticker"],
        scored.horizon == forecast["horizon"],
        scored.model_version == forecast["model_version"],
    )
    return next(iter(read_rows(engine, query)), None)


def list_fetches(engine: Engine, span: Span) -> list[Row]:
    """List the runs and sources that stored the bars of a span, by first session."""
    query = (
        select(
            _BARS.dagster_run_id,
            _BARS.source,
            func.count().label("rows"),
            func.min(_BARS.session).label("first_session"),
            func.max(_BARS.session).label("last_session"),
            func.max(_BARS.fetched_at).label("fetched_at"),
        )
        .where(_BARS.ticker == span.ticker, _BARS.session.between(span.first, span.last))
        .group_by(_BARS.dagster_run_id, _BARS.source)
        .order_by(func.min(_BARS.session), _BARS.source, _BARS.dagster_run_id)
    )
    return read_rows(engine, query)


def list_revisions(engine: Engine, span: Span) -> list[Row]:
    """List the revisions of the bars of a span, the oldest first."""
    changed = price_revisions.c
    query = (
        select(price_revisions)
        .where(changed.ticker == span.ticker, changed.session.between(span.first, span.last))
        .order_by(changed.id)
    )
    return read_rows(engine, query)


def count_later_changes(
    engine: Engine, tickers: Sequence[str], days: tuple[date, date], moment: datetime
) -> Row:
    """Count the bars of `days` stored or revised after a moment.

    Returns
    -------
    dict
        ``stored_later`` and ``revised_later``.
    """
    changed = price_revisions.c
    stored = select(func.count()).where(
        _BARS.ticker.in_(tickers), _BARS.session.between(*days), _BARS.fetched_at > moment
    )
    revised = select(func.count(distinct(tuple_(changed.ticker, changed.session)))).where(
        changed.ticker.in_(tickers), changed.session.between(*days), changed.revised_at > moment
    )
    return read_rows(
        engine,
        select(
            stored.scalar_subquery().label("stored_later"),
            revised.scalar_subquery().label("revised_later"),
        ),
    )[0]
