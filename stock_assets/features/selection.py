"""Leaving out features that say what another one says already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stock_assets.features.scaling import blocks

ALWAYS_KEPT = "Close"


def redundant(
    values: NDArray[np.floating[Any]],
    valid: NDArray[np.bool_],
    features: Sequence[str],
    threshold: float,
) -> dict[str, str]:
    """Find the features that correlate with one that is kept; the caller passes training sessions.

    Features are gone through in their order, ``Close`` before all others: one is left out if the
    absolute value of its correlation with one kept so far is more than the threshold.

    Parameters
    ----------
    values : (T, N, F) float
        Anything where not valid.
    valid : (T, N) bool
        Which rows count.
    features : sequence of str
        Names of the F features.
    threshold : float
        Largest correlation, without its sign, of two kept features.

    Returns
    -------
    dict of str to str
        For each feature that is left out, in the order of `features`, the kept one that it
        correlates with most.
    """
    strength = np.abs(correlations(values, valid))
    order = sorted(range(len(features)), key=lambda column: features[column] != ALWAYS_KEPT)
    kept: list[int] = []
    represented: dict[int, int] = {}
    for column in order:
        strongest = max(kept, key=lambda other: strength[column, other], default=column)
        if strongest != column and strength[column, strongest] > threshold:
            represented[column] = strongest
        else:
            kept.append(column)
    return {features[column]: features[represented[column]] for column in sorted(represented)}


def correlations(
    values: NDArray[np.floating[Any]], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Correlate the features of all tickers together, each in units of its own ticker.

    A ticker's values count as distances from its own mean in its own standard deviations, so that
    neither dear tickers nor a later split, which rescales one of them, decide.

    Returns
    -------
    (F, F) float64
        0 beside a feature that moves for no ticker.
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
