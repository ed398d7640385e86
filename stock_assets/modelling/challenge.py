"""Challenger against champion and persistence, on the same held-out sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from stock_assets.evaluation.metrics import (
    Metrics,
    persistence_forecasts,
    score_rows,
    summarise,
)
from stock_assets.evaluation.scoring import score_due
from stock_assets.modelling.bundle import Bundle

_PAIR = ["session", "ticker"]


@dataclass(frozen=True)
class Challenge:
    """Scored forecasts on the (session, ticker) pairs that all models forecast, and summaries.

    ``production`` and its rows are None when there is no production model, or none that forecasts
    any of the candidate's tickers.
    """

    candidate_rows: pd.DataFrame
    production_rows: pd.DataFrame | None
    candidate: Metrics
    production: Metrics | None
    persistence: Metrics


def challenge(
    candidate: Bundle, production: Bundle | None, bars: pd.DataFrame, sessions: Sequence[date]
) -> Challenge:
    """Score both models and persistence as of the same sessions.

    Each model forecasts through its serving path, from bars as traded.

    Parameters
    ----------
    candidate, production : Bundle
        The challenger, and the champion if there is one.
    bars : DataFrame
        Bars as traded, through the session after the last of `sessions`.
    sessions : sequence of date
        As-of sessions of the test stretch.
    """
    ours = score_due(candidate.forecast(bars, sessions), bars)
    theirs = None if production is None else score_due(production.forecast(bars, sessions), bars)
    if theirs is not None:
        shared = ours[_PAIR].merge(theirs[_PAIR])
        if shared.empty:  # they forecast different tickers: nothing to compare
            theirs = None
        else:
            ours, theirs = ours.merge(shared, on=_PAIR), theirs.merge(shared, on=_PAIR)
    return Challenge(
        candidate_rows=ours,
        production_rows=theirs,
        candidate=summarise(ours),
        production=None if theirs is None else summarise(theirs),
        persistence=summarise(score_rows(persistence_forecasts(ours))),
    )
