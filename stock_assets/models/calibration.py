"""Shrinkage and intervals of a trained model, from sessions that nothing else has used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import get_args

import numpy as np
import pandas as pd

from stock_assets.config import Forecast, Scale
from stock_assets.evaluation.intervals import (
    conformal_bounds,
    enough_on_each_side,
    interval_score,
    require_enough,
)
from stock_assets.evaluation.shrinkage import fit_shrinkage
from stock_assets.evaluation.significance import DEFAULT_LEVEL, diebold_mariano
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
        Coverages, and the scale or ``auto``: the one whose symmetric intervals of all coverages and
        horizons have the lowest mean score on these sessions. :func:`prefers_asymmetric` then
        decides on the form.
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
    scales: tuple[Scale, ...] = get_args(Scale) if forecast.scale == "auto" else (forecast.scale,)
    units = {
        scale: model.scaled_volatility(bars, panel, scale)[ends, np.newaxis] for scale in scales
    }
    coverages, chosen = forecast.coverages, best_scale(errors, units, forecast.coverages)
    intervals = ScaledIntervals(
        chosen,
        tuple(coverages),
        (errors / units[chosen]).astype(np.float32),
        asymmetric=prefers_asymmetric(errors, units[chosen], coverages),
        own_residuals_from=calendar.next_session(sessions[-1]),
    )
    recipe = replace(model.recipe, shrinkage=shrinkage, intervals=intervals)
    return Bundle(recipe, model.network)


def rivals(
    model: Bundle, bars: pd.DataFrame, sessions: Sequence[date], forecast: Forecast
) -> dict[str, Bundle]:
    """Return models whose intervals are compared with those of a model.

    They are calibrated on the same sessions, the form of their intervals included.
    ``constant_width`` has its forecasts, and widths that do not follow volatility; ``no_change``
    has its scale, around forecasts of no change.

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


def best_scale(
    errors: FloatArray, units: Mapping[Scale, FloatArray], coverages: Sequence[float]
) -> Scale:
    """Return the scale whose symmetric intervals have the lowest mean score on its own sessions.

    Parameters
    ----------
    errors, coverages
        As for :func:`prefers_asymmetric`.
    units : mapping of Scale to (S, 1, N) float64
    """

    def mean_score(scale: Scale) -> float:
        residuals = errors / units[scale]
        scores = _scores(residuals, errors, units[scale], coverages, asymmetric=False)
        return float(np.nanmean(scores, axis=(0, 2)).mean())

    return min(units, key=mean_score)


def prefers_asymmetric(errors: FloatArray, units: FloatArray, coverages: Sequence[float]) -> bool:
    """Check whether asymmetric intervals are significantly better than symmetric ones.

    Each half of the sessions is scored with the quantiles of the other one: on the sessions that
    they are fitted to, two quantiles are always better than one. The interval scores of a session,
    averaged over coverages, horizons and tickers, are compared by the test of Diebold and Mariano
    at 5%. Without a significant gain the intervals are symmetric, and also where a half has too few
    residuals for two quantiles of the highest coverage.

    Parameters
    ----------
    errors : (S, H, N) float64
        Actual minus forecast, oldest session first; NaN where there is none.
    units : (S, 1, N) float64
        The scale as of each session.
    coverages : sequence of float
        Ascending.
    """
    residuals, middle = errors / units, len(errors) // 2
    halves = (slice(middle), slice(middle, None))
    fewest = min(int(np.isfinite(residuals[half]).sum(axis=(0, 2)).min()) for half in halves)
    if not enough_on_each_side(fewest, coverages[-1]):
        return False
    asymmetric, symmetric = (
        np.concatenate(
            [
                _scores(residuals[other], errors[half], units[half], coverages, asymmetric=form)
                for half, other in zip(halves, reversed(halves), strict=True)
            ]
        )
        for form in (True, False)
    )
    gain = pd.DataFrame((asymmetric - symmetric).reshape(len(errors), -1)).mean(axis=1)
    return diebold_mariano(gain.to_numpy(), errors.shape[1]).better(DEFAULT_LEVEL)


def _scores(
    residuals: FloatArray,
    errors: FloatArray,
    units: FloatArray,
    coverages: Sequence[float],
    *,
    asymmetric: bool,
) -> FloatArray:
    """Score intervals with the quantiles of scaled residuals; return means over the coverages.

    Parameters
    ----------
    residuals : (R, H, N) float64
    errors, units : (S, H, N) and (S, 1, N) float64
        The result has the shape of the errors.
    """
    scores = np.zeros_like(errors)
    for step in range(errors.shape[1]):
        bounds = conformal_bounds(residuals[:, step], coverages, asymmetric=asymmetric)
        for (lower, upper), coverage in zip(bounds, coverages, strict=True):
            low, high = lower * units[:, 0], upper * units[:, 0]
            scores[:, step] += interval_score(errors[:, step], low, high, coverage)
    return scores / len(coverages)
