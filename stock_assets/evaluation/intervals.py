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


def conformal_rank(residuals: int, coverage: float) -> int:
    """Return which of the sorted absolute residuals is the half-width, counted from 1."""
    return math.ceil(round((residuals + 1) * coverage, 9))  # rounded, so that 0.9 * 10 is 9


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
    error: NDArray[np.float64],
    half_width: NDArray[np.float64],
    coverage: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Score symmetric intervals; lower is better.

    The width, plus ``2 / (1 - coverage)`` times the distance of an outcome outside (Winkler 1972;
    Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", JASA
    102).

    Parameters
    ----------
    error : ndarray
        Actual minus predicted.
    half_width : ndarray
        In the same unit, of a shape that broadcasts.
    coverage : float or ndarray
        Nominal coverage.
    """
    outside = np.maximum(np.abs(error) - half_width, 0.0)
    return 2 * half_width + 2 / (1 - coverage) * outside
