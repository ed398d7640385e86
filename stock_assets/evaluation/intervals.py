"""Prediction intervals with a stated coverage, and their score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stock_assets.core.errors import StockAssetsError


def conformal_quantiles(
    residuals: NDArray[np.floating[Any]], coverages: Sequence[float]
) -> list[float]:
    """Compute the half-widths of split-conformal intervals around a point forecast.

    The ``ceil((K + 1) * coverage)``-th smallest absolute residual, or the largest if there are too
    few: if residuals and the next error are exchangeable, ``forecast ± half-width`` holds the
    outcome with probability at least ``coverage`` (Vovk, Gammerman and Shafer 2005; Lei, G'Sell,
    Rinaldo, Tibshirani and Wasserman 2018, "Distribution-free predictive inference for regression",
    JASA 113). The residuals must come from rows that the model was not fitted on.

    Parameters
    ----------
    residuals : ndarray
        Actual minus predicted, in any one unit, which the half-widths have too; NaN for none.
    coverages : sequence of float
        Shares of outcomes inside the interval, in (0, 1).

    Returns
    -------
    list of float
        One per coverage, ascending with it; NaN without a residual.
    """
    sizes = np.abs(residuals[np.isfinite(residuals)])
    if not sizes.size:
        return [math.nan] * len(coverages)
    ranks = [min(conformal_rank(sizes.size, coverage), sizes.size) - 1 for coverage in coverages]
    ordered = np.sort(sizes)
    return [float(ordered[rank]) for rank in ranks]


def conformal_bounds(
    residuals: NDArray[np.floating[Any]], coverages: Sequence[float], *, asymmetric: bool = False
) -> list[tuple[float, float]]:
    """Compute split-conformal bounds around a point forecast, as distances from it.

    Symmetric bounds are the half-widths of :func:`conformal_quantiles` on either side. Asymmetric
    ones are conformal quantiles of the signed residuals: at most ``(1 - coverage) / 2`` of the
    outcomes lie beyond each, so that the guarantee is the same (Linusson, Johansson and Löfström
    2014, "Signed-error conformal regression", PAKDD). They are widened to include the forecast
    where nearly all residuals have one sign.

    Parameters
    ----------
    residuals, coverages
        As for :func:`conformal_quantiles`.
    asymmetric : bool

    Returns
    -------
    list of (float, float)
        Lower bound, at most 0, and upper bound, at least 0, per coverage; those of a higher
        coverage include those of a lower one. NaN without a residual.
    """
    if not asymmetric:
        return [(-width, width) for width in conformal_quantiles(residuals, coverages)]
    ordered = np.sort(residuals[np.isfinite(residuals)])
    if not ordered.size:
        return [(math.nan, math.nan)] * len(coverages)
    ranks = [min(_side_rank(ordered.size, coverage), ordered.size) for coverage in coverages]
    return [(min(float(ordered[-rank]), 0.0), max(float(ordered[rank - 1]), 0.0)) for rank in ranks]


def conformal_rank(residuals: int, coverage: float) -> int:
    """Return which of the sorted absolute residuals is the half-width, counted from 1."""
    return math.ceil(round((residuals + 1) * coverage, 9))  # rounded, so that 0.9 * 10 is 9


def _side_rank(residuals: int, coverage: float) -> int:
    """Return which of the sorted signed residuals is the upper bound of asymmetric intervals."""
    return conformal_rank(residuals, (1 + coverage) / 2)


def enough_on_each_side(residuals: int, coverage: float) -> bool:
    """Check whether there are enough residuals for asymmetric bounds of a coverage."""
    return _side_rank(residuals, coverage) <= residuals


def require_enough(residuals: int, coverage: float) -> None:
    """Fail if there are too few residuals for an interval of a coverage.

    Raises
    ------
    StockAssetsError
        The rank of its half-width exceeds their number.
    """
    if conformal_rank(residuals, coverage) > residuals:
        needed = math.ceil(round(coverage / (1 - coverage), 9))
        raise StockAssetsError(
            f"an interval of coverage {coverage} needs {needed} residuals, not {residuals}",
            "Lengthen dataset.validation_sessions or lower forecast.coverages",
        )


def interval_score(
    outcome: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    coverage: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Score intervals; lower is better.

    The width, plus ``2 / (1 - coverage)`` times the distance of an outcome outside (Winkler 1972;
    Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", JASA
    102).

    Parameters
    ----------
    outcome : ndarray
    lower, upper : ndarray
        Bounds in the same unit, of shapes that broadcast.
    coverage : float or ndarray
        Nominal coverage.
    """
    outside = np.maximum(np.maximum(lower - outcome, outcome - upper), 0.0)
    return upper - lower + 2 / (1 - coverage) * outside
