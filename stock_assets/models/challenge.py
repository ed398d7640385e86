"""Challenger against champion and baselines, on the same held-out sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from stock_assets.evaluation.metrics import KEY, persistence_forecasts, score_rows
from stock_assets.evaluation.scorecard import Scorecard, score_models
from stock_assets.evaluation.scoring import score_due
from stock_assets.models.baselines import baseline_rows
from stock_assets.models.bundle import Bundle


@dataclass(frozen=True)
class Challenge:
    """What everyone forecast of the (session, ticker, horizon) triples that both models forecast.

    Attributes
    ----------
    rows : dict of str to DataFrame
        Scored forecasts of ``candidate``, ``production``, ``persistence`` and each baseline, in
        this order. No ``production`` where there is no production model, or none that forecasts
        any of the candidate's tickers. Where both are there, so are the horizons of the shorter
        one alone.
    scores : dict of str to Scorecard
        Under the same names.
    unmatched : dict of str to DataFrame
        Scored forecasts of ``candidate`` and ``persistence`` that production has no counterpart of:
        of other tickers, or further ahead. They decide nothing. Empty where there are none.
    first_session, last_session : date
        The as-of sessions that were asked for.
    """

    rows: dict[str, pd.DataFrame]
    scores: dict[str, Scorecard]
    unmatched: dict[str, pd.DataFrame]
    first_session: date
    last_session: date


def challenge(
    candidate: Bundle,
    production: Bundle | None,
    bars: pd.DataFrame,
    sessions: Sequence[date],
    baselines: Mapping[str, pd.DataFrame],
) -> Challenge:
    """Score both models, persistence and baselines as of the same sessions.

    Each model forecasts through its serving path, from bars as traded.

    Parameters
    ----------
    candidate, production : Bundle
        The challenger, and the champion if there is one.
    bars : DataFrame
        Bars as traded, through the last session that is forecast as of the last of `sessions`.
    sessions : sequence of date
        As-of sessions of the test segment, ascending.
    baselines : mapping of str to DataFrame
        By name, forecast log returns as :mod:`stock_assets.models.baselines` gives them.
    """
    models = {"candidate": candidate, "production": production}
    rows = {
        name: score_due(model.forecast(bars, sessions), bars)
        for name, model in models.items()
        if model is not None
    }
    unmatched: dict[str, pd.DataFrame] = {}
    if production is not None:
        shared = rows["candidate"][[*KEY]].merge(rows["production"][[*KEY]])
        if shared.empty:  # they forecast different tickers: nothing to compare
            del rows["production"]
        else:
            unmatched = _beside_persistence(_without(rows["candidate"], shared))
            rows = {name: scored.merge(shared, on=[*KEY]) for name, scored in rows.items()}
    ours = rows["candidate"]
    rows |= _beside_persistence(ours)
    rows |= {name: baseline_rows(ours, forecast) for name, forecast in baselines.items()}
    return Challenge(rows, score_models(rows), unmatched, sessions[0], sessions[-1])


def _without(scored: pd.DataFrame, triples: pd.DataFrame) -> pd.DataFrame:
    """Leave out the forecasts of some triples."""
    known = scored[[*KEY]].merge(triples, how="left", indicator=True)["_merge"] == "both"
    return scored[~known.to_numpy()]


def _beside_persistence(candidate: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name a candidate's scored forecasts, and those of persistence; none where there are none."""
    if candidate.empty:
        return {}
    return {
        "candidate": candidate,
        "persistence": score_rows(persistence_forecasts(candidate)),
    }
