"""Forecasts, newest first, and the newest of each ticker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from operator import eq, ge, le
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, column, select, table, true

from stock_assets.storage.roles import of_production
from stock_assets.storage.serving.paging import Position, Row, conditions, read_page
from stock_assets.storage.tables import predictions

FORECAST_ORDER = ("as_of_session", "ticker", "horizon", "model_version")
"""Order of forecasts; the newest as-of session first."""

_MADE = predictions.c
_NEWEST_FIRST, *_OTHERS = (_MADE[name] for name in FORECAST_ORDER)
_ORDER = [_NEWEST_FIRST.desc(), *_OTHERS]
_TICKERS = select(table("latest_predictions", column("ticker"))).distinct().subquery("tickers")


@dataclass(frozen=True)
class ForecastFilter:
    """Filter of forecasts; an empty or missing part selects all."""

    tickers: Sequence[str] = ()
    horizon: int | None = None
    model_version: int | None = None
    as_of_from: date | None = None
    as_of_to: date | None = None
    target_from: date | None = None
    target_to: date | None = None

    def conditions(self, made: Any) -> list[ColumnElement[bool]]:
        """Return the conditions on the columns of ``predictions`` or of an alias."""
        return conditions(
            (made.ticker, ColumnElement.in_, self.tickers or None),
            (made.horizon, eq, self.horizon),
            (made.model_version, eq, self.model_version),
            (made.as_of_session, ge, self.as_of_from),
            (made.as_of_session, le, self.as_of_to),
            (made.target_session, ge, self.target_from),
            (made.target_session, le, self.target_to),
        )


def list_forecasts(
    engine: Engine, chosen: ForecastFilter, size: int, after: Position | None = None
) -> list[Row]:
    """List forecasts of every model version, see :data:`FORECAST_ORDER`."""
    query = select(predictions).where(*chosen.conditions(_MADE))
    return read_page(engine, query, _ORDER, size, after)


def list_latest_forecasts(
    engine: Engine, chosen: ForecastFilter, size: int, after: Position | None = None
) -> list[Row]:
    """List the matching forecasts of the newest as-of session of each ticker.

    Of several model versions only the one with the latest forecast, as in the view
    ``latest_predictions``.
    """
    earlier = predictions.alias("earlier").c
    newest = (
        select(earlier.as_of_session, earlier.model_version)
        .where(
            earlier.ticker == _TICKERS.c.ticker, of_production(earlier), *chosen.conditions(earlier)
        )
        .order_by(
            earlier.as_of_session.desc(), earlier.predicted_at.desc(), earlier.model_version.desc()
        )
        .limit(1)
        .lateral("newest")
    )
    same_key = and_(
        _MADE.ticker == _TICKERS.c.ticker,
        _MADE.as_of_session == newest.c.as_of_session,
        _MADE.model_version == newest.c.model_version,
    )
    joined = _TICKERS.join(newest, true()).join(predictions, same_key)
    query = select(predictions).select_from(joined).where(*chosen.conditions(_MADE))
    return read_page(engine, query, _ORDER, size, after)
