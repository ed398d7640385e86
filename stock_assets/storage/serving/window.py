"""Scores over the newest sessions of the model that was scored last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, text

from stock_assets.market.calendar import SPAN, sessions
from stock_assets.storage.roles import OF_PRODUCTION
from stock_assets.storage.serving.paging import read_frame, records
from stock_assets.storage.serving.performance import LIVE, LOG, TERMS, score_terms

# Sessions searched for scores, as a multiple of the window.
_REACH = 10

# After a rollback an older version may have forecast last.
_NEWEST = text(f"""
SELECT l.session, l.model_version, l.dataset_run_id FROM model_performance_log l
LEFT JOIN predictions p USING (as_of_session, ticker, horizon, model_version)
WHERE horizon = :horizon AND l.{OF_PRODUCTION} AND l.session = (
  SELECT session FROM model_performance_log WHERE horizon = :horizon AND {OF_PRODUCTION}
  ORDER BY session DESC LIMIT 1)
ORDER BY p.predicted_at DESC NULLS LAST, model_version DESC LIMIT 1
""")

# One index lookup per session until there are enough.
_SCORED = text(f"""
WITH counted AS (
  SELECT s.session FROM unnest(CAST(:sessions AS date[])) AS s(session)
  WHERE EXISTS (
    SELECT FROM {LOG}
    WHERE model_version = :model_version AND dataset = coalesce(:dataset_run_id, '')
      AND l.session = s.session AND horizon = :horizon AND l.{OF_PRODUCTION})
  ORDER BY s.session DESC LIMIT :window)
SELECT ticker, session AS day, CAST(:model_version AS int) AS model_version,
  CAST(:dataset_run_id AS text) AS dataset_run_id,
  min(session) AS first_session, max(session) AS session,
  count(DISTINCT session) AS sessions, {LIVE}, {TERMS}
FROM {LOG}
WHERE model_version = :model_version AND dataset = coalesce(:dataset_run_id, '')
  AND horizon = :horizon AND {OF_PRODUCTION}
  AND session = ANY(ARRAY(SELECT session FROM counted))
GROUP BY GROUPING SETS ((), (ticker), (session)) ORDER BY ticker, day
""")


@dataclass(frozen=True)
class ScoredWindow:
    """Scores over the newest scored sessions of one model version, one horizon.

    Attributes
    ----------
    pooled : dict
        ``first_session``, ``session`` (the last one), ``sessions``, ``forecasts``, ``live`` ones,
        ``model_version``, ``dataset_run_id`` and the scores of
        :mod:`stock_assets.evaluation.metrics`, all tickers together; None where one is undefined.
    tickers : list of dict
        The same per ``ticker``, in alphabetical order.
    differences : ndarray (sessions,)
        Loss of the model minus persistence's per session, oldest first; see
        :func:`stock_assets.evaluation.significance.loss_difference`.
    """

    pooled: dict[str, Any]
    tickers: list[dict[str, Any]]
    differences: NDArray[np.float64]


def newest_window(engine: Engine, window: int, horizon: int = 1) -> ScoredWindow | None:
    """Score the newest sessions of the version that was scored last.

    Where several were scored on that session, it is the one whose forecast was made last.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    window : int
        Number of scored sessions; fewer if fewer exist.
    horizon : int
        Sessions ahead.

    Returns
    -------
    ScoredWindow or None
        None if nothing is scored.
    """
    with engine.connect() as connection:
        newest = connection.execute(_NEWEST, {"horizon": horizon}).one_or_none()
        if newest is None:
            return None
        session, version, dataset = newest
        bound: dict[str, Any] = {"model_version": version, "dataset_run_id": dataset}
        bound |= {"window": window, "horizon": horizon}
        bound["sessions"] = _sessions_before(session, _REACH * window)
    scores = score_terms(read_frame(engine, _SCORED, bound))
    by_ticker, by_session = scores["ticker"].notna(), scores["day"].notna()
    (pooled,) = records(scores[~by_ticker & ~by_session])
    differences = scores.loc[by_session, "loss_difference"].to_numpy(np.float64)
    return ScoredWindow(pooled, records(scores[by_ticker]), differences)


def _sessions_before(last: date, count: int) -> list[date]:
    return sessions(SPAN[0], last)[-count:]
