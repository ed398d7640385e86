"""Scores over the newest sessions of a model version, of all tickers together or of each.

The database sums; :func:`stock_assets.evaluation.metrics.pooled_scores` makes scores of the sums.
Forecasts of two versions are never pooled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine, text

from stock_assets.evaluation.forecast_issues import Role
from stock_assets.evaluation.metrics import pooled_scores, roll_terms
from stock_assets.storage.serving.paging import Row, read_frame, records

_WANTED = """
    coalesce(role, 'production') = :role AND
    (CAST(:tickers AS text[]) IS NULL OR ticker = ANY(CAST(:tickers AS text[])))
    AND (CAST(:horizon AS int) IS NULL OR horizon = :horizon)
    AND (CAST(:model_version AS int) IS NULL OR model_version = :model_version)
    AND (CAST(:dataset_run_id AS text) IS NULL OR dataset_run_id = :dataset_run_id)
"""

TERMS = """
    CAST(count(*) AS double precision) AS forecasts,
    sum(absolute_error) AS absolute_error,
    sum(squared_error) AS squared_error,
    sum(absolute_percentage_error) AS percentage_error,
    sum(persistence_absolute_error) AS persistence_error,
    sum(persistence_absolute_error / actual) AS persistence_percentage_error,
    sum(absolute_error / persistence) AS loss,
    sum(persistence_absolute_error / persistence) AS persistence_loss,
    coalesce(sum(direction_hit), 0) AS hits,
    CAST(count(direction_hit) AS double precision) AS directions,
    CAST(count(direction_hit) FILTER (WHERE actual > persistence) AS double precision) AS rises,
    sum(covered) AS covered,
    CAST(count(covered) AS double precision) AS intervals
"""
"""The sums of :func:`stock_assets.evaluation.metrics.sum_terms`, as the database adds them up."""

LIVE = "CAST(count(*) FILTER (WHERE issued = 'live') AS int) AS live"
"""How many of the scored forecasts were live."""

_VERSION = ["model_version", "dataset_run_id"]

TERM_COLUMNS = re.findall(r"AS (\w+),?$", TERMS, re.MULTILINE)

LOG = "(SELECT *, coalesce(dataset_run_id, '') AS dataset FROM model_performance_log) l"
"""The log with a dataset that can be compared: that of persistence is the empty text."""

DATASET = "nullif(dataset, '') AS dataset_run_id"

_ROLLING = text(f"""
WITH numbered AS (
  SELECT model_version, dataset, session,
    row_number() OVER (PARTITION BY model_version, dataset ORDER BY session) AS nth
  FROM (SELECT DISTINCT model_version, dataset, session FROM {LOG} WHERE {_WANTED}) d),
page AS (
  SELECT * FROM numbered
  WHERE (CAST(:first AS date) IS NULL OR session >= :first)
    AND (CAST(:last AS date) IS NULL OR session <= :last)
    AND (CAST(:after_session AS date) IS NULL
         OR (session, model_version, dataset)
            < (:after_session, :after_version, coalesce(:after_dataset, '')))
  ORDER BY session DESC, model_version DESC, dataset DESC LIMIT :size),
reach AS (
  SELECT model_version, dataset, min(nth) AS first, max(nth) AS last, count(*) AS shown
  FROM page GROUP BY model_version, dataset)
SELECT model_version, {DATASET}, session, max(shown) AS shown, 1 AS sessions, {LIVE}, {TERMS}
FROM numbered JOIN reach USING (model_version, dataset)
JOIN {LOG} USING (model_version, dataset, session)
WHERE nth > first - :window AND nth <= last AND {_WANTED}
GROUP BY model_version, dataset, session
""")

_TICKERS = text(f"""
WITH numbered AS (
  SELECT model_version, dataset, session,
    row_number() OVER (PARTITION BY model_version, dataset ORDER BY session DESC) AS nth
  FROM (SELECT DISTINCT model_version, dataset, session FROM {LOG}
        WHERE session <= :session AND {_WANTED}) d)
SELECT ticker, model_version, {DATASET}, min(session) AS first_session,
  max(session) AS session, count(DISTINCT session) AS sessions, {LIVE}, {TERMS}
FROM numbered JOIN {LOG} USING (model_version, dataset, session)
WHERE nth <= :window AND {_WANTED}
  AND (model_version, dataset)
      IN (SELECT model_version, dataset FROM numbered WHERE session = :session)
  AND (CAST(:after_ticker AS text) IS NULL OR (ticker, model_version, dataset)
       > (:after_ticker, :after_version, coalesce(:after_dataset, '')))
GROUP BY ticker, model_version, dataset
ORDER BY ticker, model_version, dataset LIMIT :size
""")

_NEWEST = text(f"SELECT max(session) FROM model_performance_log WHERE {_WANTED}")


@dataclass(frozen=True)
class ScoreFilter:
    """Filter of scored forecasts; an empty or missing part selects all."""

    tickers: Sequence[str] = ()
    horizon: int | None = None
    model_version: int | None = None
    dataset_run_id: str | None = None
    role: Role = Role.PRODUCTION

    def parameters(self) -> dict[str, Any]:
        """Return the bound parameters of the queries."""
        return asdict(self) | {"tickers": list(self.tickers) or None, "role": self.role.value}


def rolling_scores(
    engine: Engine,
    wanted: ScoreFilter,
    window: int,
    first: date | None,
    last: date | None,
    size: int,
    after: tuple[date, int, str | None] | None = None,
) -> list[Row]:
    """Score each version at each of its scored sessions, the newest first, tickers together.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    wanted : ScoreFilter
        The filter.
    window : int
        Scored sessions of a version in one window; fewer at its beginning.
    first, last : date, optional
        Range of the last session of a window.
    size : int
        Rows at most.
    after : (date, int, str), optional
        Session, model version and dataset of the row before.

    Returns
    -------
    sequence of rows
        ``session``, ``model_version``, ``dataset_run_id``, ``first_session`` of the window,
        ``sessions``, ``forecasts``, how many of them were ``live``, and the scores, None where one
        is undefined.
    """
    after_session, after_version, after_dataset = after or (None, None, None)
    bound = wanted.parameters() | {"window": window, "first": first, "last": last, "size": size}
    bound |= {"after_session": after_session, "after_version": after_version}
    bound["after_dataset"] = after_dataset
    daily = read_frame(engine, _ROLLING, bound).sort_values("session")
    scores = [
        _roll(rows, window, int(rows["shown"].iloc[0]))
        for _, rows in daily.groupby(_VERSION, dropna=False)
    ]
    if not scores:
        return []
    order = ["session", *_VERSION]
    return records(pd.concat(scores).sort_values(order, ascending=False))


def _roll(daily: pd.DataFrame, window: int, shown: int) -> pd.DataFrame:
    """Score the windows that end at the newest sessions of one version."""
    rolled = roll_terms(daily[["sessions", "live", *TERM_COLUMNS]], window, shown)
    begins = np.maximum(np.arange(len(daily)) - window + 1, 0)[-shown:]
    named = daily[["session", *_VERSION]].loc[rolled.index]
    named["first_session"] = daily["session"].to_numpy()[begins]
    return named.assign(live=rolled["live"].astype(int)).join(pooled_scores(rolled))


def ticker_scores(
    engine: Engine,
    wanted: ScoreFilter,
    window: int,
    session: date,
    size: int,
    after: tuple[str, int, str | None] | None = None,
) -> list[Row]:
    """Score each ticker, by name, over the window of each version that ends at a session.

    Like :func:`rolling_scores`; ``session`` of a row is the last one in the window that the ticker
    was scored on.
    """
    after_ticker, after_version, after_dataset = after or (None, None, None)
    bound = wanted.parameters() | {"window": window, "session": session, "size": size}
    bound |= {"after_ticker": after_ticker, "after_version": after_version}
    bound["after_dataset"] = after_dataset
    return records(score_terms(read_frame(engine, _TICKERS, bound)))


def score_terms(found: pd.DataFrame) -> pd.DataFrame:
    """Replace the terms of each row by its scores."""
    return found.drop(columns=["sessions", *TERM_COLUMNS]).join(pooled_scores(found))


def newest_scored_session(engine: Engine, wanted: ScoreFilter) -> date | None:
    """Return the newest session with a scored forecast of the filter."""
    with engine.connect() as connection:
        found: date | None = connection.scalar(_NEWEST, wanted.parameters())
        return found
