"""Drops features that are highly correlated with another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stock_assets.features.scaling import blocks

ALWAYS_KEPT = "Close"


def find_redundant_features(
    values: NDArray[np.floating[Any]],
    valid: NDArray[np.bool_],
    features: Sequence[str],
    threshold: float,
) -> dict[str, str]:
    """Find features that are correlated with a kept one; the caller passes training sessions.

    Features are examined in order, ``Close`` first. A feature is redundant if the absolute value
    of its correlation with a feature kept so far exceeds the threshold.

    Parameters
    ----------
    values : (T, N, F) float
        Ignored where not valid.
    valid : (T, N) bool
    features : sequence of str
        Names of the F features.
    threshold : float
        Largest absolute correlation of two kept features.

    Returns
    -------
    dict of str to str
        Each redundant feature, in the order of `features`, and the kept feature with the highest
        absolute correlation.
    """
    strength = np.abs(correlations(values, valid))
    order = sorted(range(len(features)), key=lambda column: features[column] != ALWAYS_KEPT)
    kept: list[int] = []
    redundant: dict[int, int] = {}
    for column in order:
        strongest = max(kept, key=lambda other: strength[column, other], default=column)
        if strongest != column and strength[column, strongest] > threshold:
            redundant[column] = strongest
        else:
            kept.append(column)
    return {features[column]: features[redundant[column]] for column in sorted(redundant)}


def correlations(
    values: NDArray[np.floating[Any]], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Correlate features over all tickers, each ticker standardised by its own mean and deviation.

    Standardising keeps expensive tickers, and splits that rescale one, from dominating.

    Returns
    -------
    (F, F) float64
        0 for a feature that is constant for every ticker.
    """
    count = values.shape[2]
    products = np.zeros((count, count))
    for tickers in blocks(values.shape[1], len(values) * count):
        mask = valid[:, tickers, np.newaxis]
        exact = np.where(mask, values[:, tickers], 0.0).astype(np.float64)
        rows = np.maximum(mask.sum(axis=0), 1)
        exact -= np.where(mask, exact.sum(axis=0) / rows, 0.0)
        size = np.sqrt(np.square(exact).sum(axis=0) / rows)
        moves = size > 1e-9 * np.abs(values[:, tickers]).max(axis=0, where=mask, initial=0.0)
        exact *= np.divide(1.0, size, out=np.zeros_like(size), where=moves)
        by_row = exact.reshape(-1, count)
        products += by_row.T @ by_row
    size = np.sqrt(np.diagonal(products))
    sizes = np.outer(size, size)
    np.divide(products, sizes, out=products, where=sizes > 0)
    return products
