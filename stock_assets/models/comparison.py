"""Compares candidate, production and baselines on the same held-out sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from stock_assets.evaluation.change_detection import DetectorBounds, held_out_bounds
from stock_assets.evaluation.interval_scores import interval_table
from stock_assets.evaluation.metrics import KEY, persistence_forecasts, score_rows
from stock_assets.evaluation.scorecard import Scorecard, score_models
from stock_assets.evaluation.scoring import score_due
from stock_assets.evaluation.session_losses import session_numbers
from stock_assets.models.baselines import baseline_rows
from stock_assets.models.bundle import Bundle


@dataclass(frozen=True)
class HeldOutComparison:
    """Scores on the (session, ticker, horizon) triples that candidate and production share.

    Attributes
    ----------
    rows : dict of str to DataFrame
        Scored forecasts of ``candidate``, ``production``, ``persistence``, ``candidate_raw`` (the
        candidate without shrinkage) and each baseline, in this order. ``production`` is absent if
        there is no production model or it shares no triple with the candidate, ``candidate_raw`` if
        the candidate is not shrunk.
    scores : dict of str to Scorecard
        Under the same names.
    unmatched : dict of str to DataFrame
        Scored forecasts of ``candidate`` and ``persistence`` for tickers or horizons that
        production does not forecast. They do not affect the decision. Empty if there are none.
    intervals : DataFrame
        From :func:`stock_assets.evaluation.interval_scores.interval_table`: of the candidate, its
        rivals and production. Empty without a forecast.
    first_session, last_session : date
        First and last as-of session.
    detection : DetectorBounds
        The parameters of the candidate's detectors, from all of its forecasts.
    """

    rows: dict[str, pd.DataFrame]
    scores: dict[str, Scorecard]
    unmatched: dict[str, pd.DataFrame]
    intervals: pd.DataFrame
    first_session: date
    last_session: date
    detection: DetectorBounds


def compare_on_held_out(
    candidate: Bundle,
    production: Bundle | None,
    bars: pd.DataFrame,
    sessions: Sequence[date],
    baselines: Mapping[str, pd.DataFrame],
    rivals: Mapping[str, Bundle] | None = None,
    refit: Bundle | None = None,
) -> HeldOutComparison:
    """Score both models, persistence and baselines as of the same sessions.

    Models forecast as in serving, from bars as traded.

    Parameters
    ----------
    candidate, production : Bundle
        The challenger, and the champion if there is one.
    bars : DataFrame
        Bars as traded, through the last session that is forecast.
    sessions : sequence of date
        As-of sessions of the test segment, ascending.
    baselines : mapping of str to DataFrame
        Forecast log returns by name, see :mod:`stock_assets.models.baselines`.
    rivals : mapping of str to Bundle, optional
        Models with other intervals, from :func:`stock_assets.models.calibration.rivals`.
    refit : Bundle, optional
        The refit of `production` that is in force. It forecasts from its as-of session on;
        `production` was not trained on the sessions before, and forecasts those.
    """
    rows = {"candidate": score_due(candidate.forecast(bars, sessions), bars)}
    if production is not None:
        rows["production"] = score_due(_production(production, refit, bars, sessions), bars)
    if candidate.recipe.is_shrunk:
        raw_model = Bundle(candidate.recipe.unshrunk(), candidate.network)
        rows["candidate_raw"] = score_due(raw_model.forecast(bars, sessions), bars)
    numbers = session_numbers(rows["candidate"])
    detection = held_out_bounds(numbers, candidate.recipe.intervals.coverage)
    unmatched: dict[str, pd.DataFrame] = {}
    if production is not None:
        shared = rows["candidate"][[*KEY]].merge(rows["production"][[*KEY]])
        if shared.empty:  # the models have no ticker in common
            del rows["production"]
        else:
            unmatched = _with_persistence(_without_triples(rows["candidate"], shared))
            rows = {name: scored.merge(shared, on=[*KEY]) for name, scored in rows.items()}
    candidate_rows, raw = rows["candidate"], rows.pop("candidate_raw", None)
    rows |= _with_persistence(candidate_rows)
    rows |= {} if raw is None else {"candidate_raw": raw}
    rows |= {name: baseline_rows(candidate_rows, forecast) for name, forecast in baselines.items()}
    with_intervals = {"candidate": candidate_rows} | {
        name: score_due(rival.forecast(bars, sessions), bars).merge(candidate_rows[[*KEY]])
        for name, rival in (rivals or {}).items()
    }
    with_intervals |= {name: rows[name] for name in ("production",) if name in rows}
    return HeldOutComparison(
        rows,
        score_models(rows),
        unmatched,
        interval_table(with_intervals),
        sessions[0],
        sessions[-1],
        detection,
    )


def _production(
    production: Bundle, refit: Bundle | None, bars: pd.DataFrame, sessions: Sequence[date]
) -> pd.DataFrame:
    """Forecast as of each session with the model that has not learnt from what followed."""
    begins = date.max if refit is None else refit.recipe.as_of
    parts = (
        (production, [day for day in sessions if day < begins]),
        (refit, [day for day in sessions if day >= begins]),
    )
    return pd.concat(
        [model.forecast(bars, days) for model, days in parts if model is not None and days],
        ignore_index=True,
    )


def _without_triples(scored: pd.DataFrame, triples: pd.DataFrame) -> pd.DataFrame:
    """Drop the forecasts of the given triples."""
    found = scored[[*KEY]].merge(triples, how="left", indicator=True)["_merge"] == "both"
    return scored[~found.to_numpy()]


def _with_persistence(candidate: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the candidate's rows and the matching rows of persistence; nothing for no rows."""
    if candidate.empty:
        return {}
    return {
        "candidate": candidate,
        "persistence": score_rows(persistence_forecasts(candidate)),
    }
