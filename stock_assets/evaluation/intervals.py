"""Prediction intervals with a stated coverage."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stock_assets.core.errors import StockAssetsError


def conformal_half_width(residuals: NDArray[np.floating], coverage: float) -> float:
    """Compute the half-width of a split-conformal interval around a point forecast.

    The ``ceil((K + 1) * coverage)``-th smallest absolute residual: if residuals and the next error
    are exchangeable, ``forecast ± half-width`` holds the outcome with probability at least
    ``coverage`` (Vovk, Gammerman and Shafer 2005; Lei, G'Sell, Rinaldo, Tibshirani and Wasserman
    2018, "Distribution-free predictive inference for regression", JASA 113). The residuals must
    come from rows that the model was not fitted on.

    Parameters
    ----------
    residuals : ndarray (K,)
        Actual minus predicted, in any one unit (here the scaled target); the half-width has the
        same.
    coverage : float
        The share of outcomes inside the interval, in (0, 1).

    Raises
    ------
    StockAssetsError
        A residual is not finite, or there are too few for this coverage.
    """
    sizes = np.sort(np.abs(residuals))
    if not np.isfinite(sizes).all():
        raise StockAssetsError(
            f"{int((~np.isfinite(sizes)).sum())} of {sizes.size} residuals are not finite",
            "Take residuals only where actual and predicted are both known",
        )
    # Rounded first, so that 0.9 * 10 is exactly 9.
    rank = math.ceil(round((sizes.size + 1) * coverage, 9))
    if rank > sizes.size:
        needed = math.ceil(round(coverage / (1 - coverage), 9))
        raise StockAssetsError(
            f"an interval of coverage {coverage} needs {needed} residuals, not {sizes.size}",
            "Lengthen dataset.validation_sessions or lower forecast.coverage",
        )
    return float(sizes[rank - 1])
