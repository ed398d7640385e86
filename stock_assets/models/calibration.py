"""Shrinkage and intervals of a trained model, from sessions that nothing else has used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import get_args

import numpy as np
import pandas as pd

from stock_assets.config import Forecast, Scale
from stock_assets.evaluation.intervals import (
    conformal_quantiles,
    interval_score,
    require_enough,
)
from stock_assets.evaluation.shrinkage import fit_shrinkage
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.models.forecast_frame import FloatArray
from stock_assets.models.intervals import ScaledIntervals


def calibrate(
    model: Bundle,
    bars: pd.DataFrame,
    sessions: Sequence[date],
    forecast: Forecast,
    shrinkage: tuple[float, ...] | None = None,
) -> Bundle:
    """Return a model with shrinkage and intervals fitted on calibration sessions.

    Bars after the last label of these sessions are not read.

    Parameters
    ----------
    model : Bundle
        Its own shrinkage and intervals are ignored.
    bars : DataFrame
        As traded, from the first session of history on.
    sessions : sequence of date
        As-of sessions that neither training nor early stopping has used, ascending.
    forecast : Forecast
        Coverages, and the scale or ``auto``: the one whose intervals of all coverages and horizons
        have the lowest mean score on these sessions.
    shrinkage : tuple of float, optional
        Factors per horizon; without them they are fitted.

    Raises
    ------
    StockAssetsError
        There are too few residuals for a coverage.
    """
    horizon = model.recipe.network.horizon
    panel = model.panel(bars, calendar.next_session(sessions[-1], horizon))
    moves, actual = model.moves(panel, sessions)
    if shrinkage is None:
        ahead = range(horizon)
        shrinkage = tuple(fit_shrinkage(moves[:, h], actual[:, h], h + 1) for h in ahead)
    errors = actual - np.array(shrinkage)[:, np.newaxis] * moves
    for known in np.isfinite(errors).sum(axis=(0, 2)).tolist():
        require_enough(known, forecast.coverage)
    ends = panel.sessions.get_indexer(pd.DatetimeIndex(list(sessions)))
    candidates: tuple[Scale, ...] = (
        get_args(Scale) if forecast.scale == "auto" else (forecast.scale,)
    )
    units = {
        scale: model.scaled_volatility(bars, panel, scale)[ends, np.newaxis] for scale in candidates
    }
    chosen = min(candidates, key=lambda scale: _mean_score(errors, units[scale], forecast))
    intervals = ScaledIntervals(
        chosen, tuple(forecast.coverages), (errors / units[chosen]).astype(np.float32)
    )
    recipe = replace(model.recipe, shrinkage=shrinkage, intervals=intervals)
    return Bundle(recipe, model.network)


def rivals(
    model: Bundle, bars: pd.DataFrame, sessions: Sequence[date], forecast: Forecast
) -> dict[str, Bundle]:
    """Return models whose intervals are compared with those of a model.

    They are calibrated on the same sessions. ``constant_width`` has its forecasts, and widths that
    do not follow volatility; ``no_change`` has its scale, around forecasts of no change.

    Parameters
    ----------
    model, bars, sessions
        As for :func:`calibrate`.
    forecast : Forecast
        Coverages and scale of the model.
    """
    shrinkage = model.recipe.shrinkage
    constant = forecast.model_copy(update={"scale": "constant"})
    return {
        "constant_width": calibrate(model, bars, sessions, constant, shrinkage),
        "no_change": calibrate(model, bars, sessions, forecast, (0.0,) * len(shrinkage)),
    }


def _mean_score(errors: FloatArray, units: FloatArray, forecast: Forecast) -> float:
    """Return the mean score of the intervals of all coverages and horizons."""
    scores = []
    for step in range(errors.shape[1]):
        error, unit = errors[:, step], units[:, 0]
        widths = conformal_quantiles(error / unit, forecast.coverages)
        scores += [
            np.nanmean(interval_score(error, width * unit, coverage))
            for width, coverage in zip(widths, forecast.coverages, strict=True)
        ]
    return float(np.mean(scores))
