"""Queries of the dashboard: one for all tickers of a page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    and_,
    case,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, distinct_on

from stock_assets.evaluation.forecast_issues import Issued
from stock_assets.storage.database import copy_out
from stock_assets.storage.roles import of_production
from stock_assets.storage.tables import model_performance_log as _log
from stock_assets.storage.tables import (
    model_promotions,
    predictions,
    price_revisions,
    quarantined_bars,
    raw_stock_data,
    ticker_renames,
)


def newest_forecasts(engine: Engine, first: date, horizon: int) -> pd.DataFrame:
    """Read the newest forecast of each ticker as of `first` or later.

    Returns
    -------
    DataFrame
        The columns of ``predictions``, one row per ticker in alphabetical order; if several
        models forecast a session, the last forecast.
    """
    made = predictions.c
    query = (
        select(predictions)
        .where(made.as_of_session >= first, made.horizon == horizon, of_production(made))
        .ext(distinct_on(made.ticker))
        .order_by(
            made.ticker,
            made.as_of_session.desc(),
            made.predicted_at.desc(),
            made.model_version.desc(),
        )
    )
    return _frame(engine, query)


def newest_forecast_of(engine: Engine, ticker: str) -> pd.DataFrame:
    """Read all horizons of a ticker's newest forecast; columns of ``predictions``.

    All are of the model version that forecast last; another may forecast further ahead.
    """
    made = predictions.c
    newest = (
        select(made.as_of_session, made.model_version)
        .where(made.ticker == ticker, of_production(made))
        .order_by(made.as_of_session.desc(), made.predicted_at.desc(), made.model_version.desc())
        .limit(1)
        .subquery()
    )
    same = [made[column.name] == column for column in newest.c]
    query = (
        select(predictions)
        .join(newest, and_(*same))
        .where(made.ticker == ticker)
        .order_by(made.horizon)
    )
    return _frame(engine, query)


def recent_closes(engine: Engine, sessions: Sequence[date]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the closes of every ticker on consecutive sessions, as traded, and the splits.

    The database returns one row per ticker, several times as fast as one per bar.

    Returns
    -------
    closes, ratios : DataFrame
        Float64, one row per ticker with a bar, in alphabetical order, one column per session. A
        close is NaN where there is no bar; a ratio is 1 where there is no split.
    """
    bars = raw_stock_data.c
    day = bars.session - sessions[0]
    within = bars.session.between(sessions[0], sessions[-1])
    read = select(bars.ticker, func.array_agg(day), func.array_agg(bars.close)).where(within)
    split = select(bars.ticker, bars.session, bars.stock_splits)
    with engine.connect() as connection:
        rows = connection.execute(read.group_by(bars.ticker)).all()
        splits = connection.execute(split.where(within, bars.stock_splits > 0)).all()
    place = np.zeros((sessions[-1] - sessions[0]).days + 1, dtype=int)
    place[[(session - sessions[0]).days for session in sessions]] = range(len(sessions))
    closes = np.full((len(rows), len(sessions)), np.nan)
    for row, (_, offsets, values) in zip(closes, rows, strict=True):
        row[place[offsets]] = values
    tickers = pd.Index([row[0] for row in rows], dtype=object)
    frame = pd.DataFrame(
        closes, index=tickers, columns=pd.DatetimeIndex(list(sessions))
    ).sort_index()
    ratios = pd.DataFrame(1.0, index=frame.index, columns=frame.columns)
    for ticker, session, ratio in splits:
        ratios.loc[ticker, pd.Timestamp(session)] = ratio
    return frame, ratios


def scored_forecasts(
    engine: Engine, ticker: str, first: date, last: date, horizon: int
) -> pd.DataFrame:
    """Read the scored forecasts of a ticker, oldest session first.

    Returns
    -------
    DataFrame
        The columns of ``model_performance_log``. If several models forecast a session, the first
        live forecast of it comes first, or without any the one that was made last.
    """
    same = and_(
        *(
            predictions.c[name] == _log.c[name]
            for name in ("as_of_session", "ticker", "horizon", "model_version")
        )
    )
    query = (
        select(_log)
        .outerjoin(predictions, same)
        .where(
            *(_log.c.session.between(first, last), _log.c.ticker == ticker),
            *(_log.c.horizon == horizon, of_production(_log.c)),
        )
        .order_by(
            _log.c.session,
            case((_log.c.issued == Issued.LIVE.value, _log.c.issue)).nulls_last(),
            predictions.c.predicted_at.desc().nulls_last(),
            _log.c.model_version.desc(),
        )
    )
    return _frame(engine, query)


def _frame(engine: Engine, query: Select[Any]) -> pd.DataFrame:
    with engine.connect() as connection:
        return copy_out(connection, query)


def bars_per_session(engine: Engine, first: date) -> pd.DataFrame:
    """Count the bars of each session, newest first, with the time of the last one.

    Returns
    -------
    DataFrame
        ``session``, ``bars``, ``fetched_at`` (of the bar stored last, UTC) and its
        ``dagster_run_id``.
    """
    bars = raw_stock_data.c
    last_stored = func.array_agg(aggregate_order_by(bars.dagster_run_id, bars.fetched_at.desc()))
    query = (
        select(
            bars.session,
            func.count().label("bars"),
            func.max(bars.fetched_at).label("fetched_at"),
            last_stored[1].label("dagster_run_id"),
        )
        .where(bars.session >= first)
        .group_by(bars.session)
        .order_by(bars.session.desc())
    )
    return _plain(engine, query)


def forecasts_per_session(engine: Engine, first: date) -> pd.DataFrame:
    """Count the forecasts as of each session: ``session``, ``forecasts``; without a shadow's."""
    made = predictions.c
    return _plain(engine, _counted(made.as_of_session, first, "forecasts", of_production(made)))


def scores_per_session(engine: Engine, first: date) -> pd.DataFrame:
    """Count the scored forecasts of each session: ``session``, ``scored``; without a shadow's."""
    return _plain(engine, _counted(_log.c.session, first, "scored", of_production(_log.c)))


def bars_per_ticker(engine: Engine, first: date) -> pd.DataFrame:
    """Count each ticker's bars from a session on: ``ticker``, ``bars``."""
    bars = raw_stock_data.c
    counted = select(bars.ticker, func.count().label("bars"))
    return _plain(engine, counted.where(bars.session >= first).group_by(bars.ticker))


def newest_revisions(engine: Engine, limit: int) -> pd.DataFrame:
    """Read the newest revisions of stored bars, columns of ``price_revisions``."""
    return _plain(
        engine, select(price_revisions).order_by(price_revisions.c.id.desc()).limit(limit)
    )


def newest_quarantined(engine: Engine, limit: int) -> pd.DataFrame:
    """Read the bars in quarantine, newest first, then the released ones."""
    kept = quarantined_bars.c
    order = (kept.released_at.desc().nulls_first(), kept.quarantined_at.desc(), kept.ticker)
    return _plain(engine, select(quarantined_bars).order_by(*order).limit(limit))


def applied_renames(engine: Engine, limit: int) -> pd.DataFrame:
    """Read the newest renames, columns of ``ticker_renames``."""
    return _plain(
        engine, select(ticker_renames).order_by(ticker_renames.c.applied_at.desc()).limit(limit)
    )


def runs_since(engine: Engine, first: date, limit: int) -> pd.DataFrame:
    """Read the Dagster runs that stored rows of `first` and later sessions, newest first.

    Returns
    -------
    DataFrame
        ``dagster_run_id``, ``wrote`` (kinds of rows) and ``at`` (time of the last row, UTC).
    """
    wrote = {
        "bars": (raw_stock_data.c, "session", "fetched_at"),
        "revisions": (price_revisions.c, "session", "revised_at"),
        "forecasts": (predictions.c, "as_of_session", "predicted_at"),
        "scores": (_log.c, "session", "evaluated_at"),
        "promotion": (model_promotions.c, "as_of_session", "decided_at"),
    }
    parts = [
        select(
            columns.dagster_run_id, literal(name).label("wrote"), func.max(columns[at]).label("at")
        )
        .where(columns[session] >= first, columns.dagster_run_id.is_not(None))
        .group_by(columns.dagster_run_id)
        for name, (columns, session, at) in wrote.items()
    ]
    rows = union_all(*parts).subquery().c
    query = (
        select(
            rows.dagster_run_id,
            func.string_agg(rows.wrote, aggregate_order_by(literal(", "), rows.at)).label("wrote"),
            func.max(rows.at).label("at"),
        )
        .group_by(rows.dagster_run_id)
        .order_by(func.max(rows.at).desc())
        .limit(limit)
    )
    return _plain(engine, query)


def _counted(
    session: ColumnElement[Any], first: date, name: str, wanted: ColumnElement[bool]
) -> Select[Any]:
    counted = select(session.label("session"), func.count().label(name))
    return counted.where(session >= first, wanted).group_by(session)


def _plain(engine: Engine, query: Select[Any]) -> pd.DataFrame:
    """Return a few rows as plain Python values."""
    with engine.connect() as connection:
        found = connection.execute(query)
        return pd.DataFrame(found.fetchall(), columns=list(found.keys()), dtype=object)
