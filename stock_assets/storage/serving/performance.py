"""Rolling scores, computed where the scored forecasts are.

The figures are those of :func:`stock_assets.evaluation.metrics.summarise`, over the newest scored
sessions of one model version up to each session; forecasts of several versions never mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from sqlalchemy import Engine, text

from stock_assets.storage.serving.paging import Row, read_rows

_WANTED = """
    (CAST(:tickers AS text[]) IS NULL OR ticker = ANY(CAST(:tickers AS text[])))
    AND (CAST(:horizon AS int) IS NULL OR horizon = :horizon)
    AND (CAST(:model_version AS int) IS NULL OR model_version = :model_version)
"""

# What is added up over the forecasts of a window.
SUMS = """
    count(*) AS forecasts,
    sum(absolute_error) AS error,
    sum(squared_error) AS squared,
    sum(absolute_percentage_error) AS share,
    sum(persistence_absolute_error) AS persistence_error,
    sum(persistence_absolute_error / actual) AS persistence_share,
    sum(absolute_error / persistence) AS scaled,
    sum(persistence_absolute_error / persistence) AS persistence_scaled,
    sum(direction_hit) AS hits,
    count(direction_hit) AS directions,
    count(direction_hit) FILTER (WHERE actual > persistence) AS rises,
    sum(covered) AS covered,
    count(covered) AS intervals
"""

_ADDED = """
    count(*) OVER window_sessions AS sessions,
    min(session) OVER window_sessions AS first_session,
    sum(forecasts) OVER window_sessions AS forecasts,
    sum(error) OVER window_sessions AS error,
    sum(squared) OVER window_sessions AS squared,
    sum(share) OVER window_sessions AS share,
    sum(persistence_error) OVER window_sessions AS persistence_error,
    sum(persistence_share) OVER window_sessions AS persistence_share,
    sum(scaled) OVER window_sessions AS scaled,
    sum(persistence_scaled) OVER window_sessions AS persistence_scaled,
    sum(hits) OVER window_sessions AS hits,
    sum(directions) OVER window_sessions AS directions,
    sum(rises) OVER window_sessions AS rises,
    sum(covered) OVER window_sessions AS covered,
    sum(intervals) OVER window_sessions AS intervals
"""

FIGURES = """
    first_session,
    CAST(sessions AS int) AS sessions,
    CAST(forecasts AS int) AS forecasts,
    error / forecasts AS mae,
    persistence_error / forecasts AS persistence_mae,
    sqrt(squared / forecasts) AS rmse,
    share / forecasts AS mape,
    persistence_share / forecasts AS persistence_mape,
    scaled / nullif(persistence_scaled, 0) AS relative_mae,
    hits / nullif(directions, 0) AS direction_accuracy,
    CAST(rises AS double precision) / nullif(directions, 0) AS base_rate_up,
    covered / nullif(intervals, 0) AS coverage
"""

_NUMBERED = f"""
    SELECT model_version, session,
      row_number() OVER (PARTITION BY model_version ORDER BY session) AS nth
    FROM (SELECT DISTINCT model_version, session FROM model_performance_log WHERE {_WANTED}) d
"""

_ROLLING = text(f"""
WITH numbered AS ({_NUMBERED}),
page AS (
  SELECT * FROM numbered
  WHERE (CAST(:first AS date) IS NULL OR session >= :first)
    AND (CAST(:last AS date) IS NULL OR session <= :last)
    AND (CAST(:after_session AS date) IS NULL
         OR (session, model_version) < (:after_session, :after_version))
  ORDER BY session DESC, model_version DESC LIMIT :size),
reach AS (
  SELECT model_version, min(nth) - :window AS before, max(nth) AS newest
  FROM page GROUP BY model_version),
daily AS (
  SELECT model_version, session, {SUMS}
  FROM numbered JOIN reach USING (model_version)
  JOIN model_performance_log USING (model_version, session)
  WHERE nth > before AND nth <= newest AND {_WANTED}
  GROUP BY model_version, session),
rolled AS (
  SELECT model_version, session, {_ADDED} FROM daily
  WINDOW window_sessions AS (
    PARTITION BY model_version ORDER BY session ROWS BETWEEN :window - 1 PRECEDING AND CURRENT ROW))
SELECT session, model_version, {FIGURES} FROM rolled JOIN page USING (model_version, session)
ORDER BY session DESC, model_version DESC
""")

_TICKERS = text(f"""
WITH numbered AS (
  SELECT model_version, session,
    row_number() OVER (PARTITION BY model_version ORDER BY session DESC) AS nth
  FROM (SELECT DISTINCT model_version, session FROM model_performance_log
        WHERE session <= :session AND {_WANTED}) d),
scored AS (
  SELECT ticker, model_version, min(session) AS first_session, max(session) AS session,
    count(DISTINCT session) AS sessions, {SUMS}
  FROM numbered JOIN model_performance_log USING (model_version, session)
  WHERE nth <= :window AND {_WANTED}
    AND model_version IN (SELECT model_version FROM numbered WHERE session = :session)
  GROUP BY ticker, model_version)
SELECT ticker, model_version, session, {FIGURES} FROM scored
WHERE CAST(:after_ticker AS text) IS NULL
  OR (ticker, model_version) > (:after_ticker, :after_version)
ORDER BY ticker, model_version LIMIT :size
""")

_NEWEST = text(f"SELECT max(session) FROM model_performance_log WHERE {_WANTED}")


@dataclass(frozen=True)
class WantedScores:
    """Which scored forecasts count; an empty or missing part counts all."""

    tickers: Sequence[str] = ()
    horizon: int | None = None
    model_version: int | None = None

    def parameters(self) -> dict[str, Any]:
        """Give the values that the queries are bound to."""
        return asdict(self) | {"tickers": list(self.tickers) or None}


def rolling_scores(
    engine: Engine,
    wanted: WantedScores,
    window: int,
    first: date | None,
    last: date | None,
    size: int,
    after: tuple[date, int] | None = None,
) -> list[Row]:
    """Score each version at each of its scored sessions, the newest first, tickers together.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    wanted : WantedScores
        The forecasts that count.
    window : int
        Scored sessions of a version that make one figure; fewer at its beginning.
    first, last : date, optional
        Sessions of the figures, not of what they are made of.
    size : int
        Rows at most.
    after : (date, int), optional
        Session and model version of the row before.

    Returns
    -------
    sequence of rows
        ``session``, ``model_version``, ``first_session`` of the window, ``sessions``, ``forecasts``
        and the scores, None where one is undefined.
    """
    after_session, after_version = after or (None, None)
    return read_rows(
        engine,
        _ROLLING,
        wanted.parameters()
        | {"window": window, "first": first, "last": last, "size": size}
        | {"after_session": after_session, "after_version": after_version},
    )


def ticker_scores(
    engine: Engine,
    wanted: WantedScores,
    window: int,
    session: date,
    size: int,
    after: tuple[str, int] | None = None,
) -> list[Row]:
    """Score each ticker, by name, over the window of each version that ends at a session.

    Like :func:`rolling_scores`; ``session`` of a row is the last one in the window that the ticker
    was scored on.
    """
    after_ticker, after_version = after or (None, None)
    return read_rows(
        engine,
        _TICKERS,
        wanted.parameters()
        | {"window": window, "session": session, "size": size}
        | {"after_ticker": after_ticker, "after_version": after_version},
    )


def newest_scored_session(engine: Engine, wanted: WantedScores) -> date | None:
    """Newest session on which a wanted forecast was scored."""
    with engine.connect() as connection:
        found: date | None = connection.scalar(_NEWEST, wanted.parameters())
        return found
