"""Differences between values computed again and recorded ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stock_assets.features.scaling import Scaler


def largest(differences: Iterable[float | None]) -> float | None:
    """Return the largest difference; None if one of them is None."""
    found = list(differences)
    known = [difference for difference in found if difference is not None]
    return max(known, default=0.0) if len(known) == len(found) else None


def array_difference(then: NDArray[Any], now: NDArray[Any]) -> float | None:
    """Return the largest difference of two arrays, relative to the largest value of its column.

    Columns are the last dimension. None if the arrays differ in shape, type or missing values, or
    in numbers that are not floating-point.
    """
    if then.shape != now.shape or then.dtype != now.dtype:
        return None
    if then.dtype.kind != "f":
        return 0.0 if np.array_equal(then, now) else None
    known = np.isfinite(then)
    if not np.array_equal(known, np.isfinite(now)):
        return None
    columns = tuple(range(then.ndim - 1))
    size = np.abs(then).max(axis=columns, where=known, initial=np.finfo(then.dtype).tiny)
    distance = np.subtract(then, now, out=np.zeros_like(then), where=known)
    return float((np.abs(distance) / size).max(initial=0.0))


def arrays_difference(
    then: Mapping[str, NDArray[Any]], now: Mapping[str, NDArray[Any]]
) -> float | None:
    """Return the largest difference of named arrays; None if they cannot be compared."""
    if then.keys() != now.keys():
        return None
    return largest(array_difference(then[name], now[name]) for name in then)


def factors_difference(
    then: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]
) -> float | None:
    """Return the largest relative difference of adjustment factors, of equal tickers and names."""
    return largest(
        array_difference(np.array([factor]), np.array([now[ticker][name]]))
        for ticker, factors in then.items()
        for name, factor in factors.items()
    )


def scaler_difference(then: Scaler, now: Scaler) -> float | None:
    """Return the largest difference of centres and scales, in units of the scale.

    None if the scalers differ in kind, shape or rows.
    """
    equal = (
        then.kind == now.kind
        and then.centre.shape == now.centre.shape
        and np.array_equal(then.rows, now.rows)
        and np.array_equal(then.pooled, now.pooled)
    )
    if not equal:
        return None
    distances = (np.abs(then.centre - now.centre), np.abs(then.scale - now.scale))
    return float(max((distance / then.scale).max(initial=0.0) for distance in distances))
