"""Scaling per ticker and feature, fitted on training sessions only and kept as plain numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stock_assets.core.errors import StockAssetsError

Kind = Literal["standard", "minmax", "robust", "zero_mean"]
FloatArray = NDArray[np.float64]

BLOCK_NUMBERS = 8_000_000
"""Numbers of a panel that are worked on at a time; their copies are what memory is needed for."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """``scaled = (value - centre) / scale``, per ticker and feature.

    Attributes
    ----------
    kind : Kind
        ``standard`` (mean, standard deviation), ``minmax`` (middle of the range, range), ``robust``
        (median, distance between the quartiles) or ``zero_mean`` (0, root mean square; for returns,
        so that a scaled 0 still means "no change").
    centre, scale : (N, F) float64
        In the units of the feature. Where the scale would be 0, to a 32-bit float, it is 1: a
        feature that never varied, or for ``robust`` one that seldom did.
    rows : (N,) int64
        Valid training rows of each ticker.
    pooled : (N,) bool
        True for a ticker with too few rows of its own, which has the statistics of all tickers'.
    """

    kind: Kind
    centre: FloatArray
    scale: FloatArray
    rows: NDArray[np.int64]
    pooled: NDArray[np.bool_]

    def transform(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Scale values of shape (..., N, F) in 32-bit arithmetic; NaN stays NaN.

        Values outside the fitted range are scaled on, never clipped.
        """
        scaled: NDArray[np.float32]
        scaled = np.subtract(values, self.centre, dtype=np.float32, casting="same_kind")
        scaled /= self.scale.astype(np.float32)
        return scaled

    def inverse(self, scaled: NDArray[np.floating[Any]]) -> FloatArray:
        """Undo `transform`, up to the rounding of float32: (..., N, F) in the feature's units."""
        values: FloatArray = np.multiply(scaled, self.scale)
        values += self.centre
        return values

    def to_dict(self) -> dict[str, Any]:
        """Numbers and lists only, for JSON; `from_dict` gives the same bits back."""
        return {
            "kind": self.kind,
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "rows": self.rows.tolist(),
            "pooled": self.pooled.tolist(),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Scaler:
        """Rebuild a scaler from `to_dict`, also after a trip through JSON."""
        return cls(
            kind=content["kind"],
            centre=np.array(content["centre"], dtype=np.float64),
            scale=np.array(content["scale"], dtype=np.float64),
            rows=np.array(content["rows"], dtype=np.int64),
            pooled=np.array(content["pooled"], dtype=np.bool_),
        )


def fit_scaler(
    values: NDArray[np.floating[Any]],
    valid: NDArray[np.bool_],
    kind: Kind,
    minimum_rows: int = 60,
) -> Scaler:
    """Fit a scaler to training sessions; the caller passes no others.

    Parameters
    ----------
    values : (T, N, F) float
        Features, anything where not valid.
    valid : (T, N) bool
        Which rows count.
    kind : Kind
        See `Scaler`.
    minimum_rows : int
        A ticker with fewer valid rows, or none, takes the statistics of all valid rows together.

    Raises
    ------
    StockAssetsError
        No row is valid.
    """
    rows = valid.sum(axis=0)
    if not rows.any():
        raise StockAssetsError(
            "There is no complete row of features in the training sessions to fit a scaler to",
            "Fetch more history, or choose feature groups with a shorter warm-up",
        )
    pooled = rows < max(minimum_rows, 1)
    centre = np.empty(values.shape[1:])
    scale = np.empty(values.shape[1:])
    for tickers in blocks(values.shape[1], len(values) * values.shape[2]):
        own = np.flatnonzero(~pooled[tickers]) + tickers.start
        if own.size:
            centre[own], scale[own] = _statistics(values[:, own], valid[:, own, np.newaxis], kind)
    if pooled.any():
        for columns in blocks(values.shape[2], valid.size):
            every_row = values[:, :, columns][valid]
            mask = np.ones((len(every_row), 1), dtype=np.bool_)
            centre[pooled, columns], scale[pooled, columns] = _statistics(every_row, mask, kind)
    varied = scale > np.finfo(np.float32).tiny
    return Scaler(kind, centre, np.where(varied, scale, 1.0), rows, pooled)


def blocks(count: int, numbers: int) -> Iterator[slice]:
    """Cut `count` things of so many numbers each into blocks of about `BLOCK_NUMBERS`."""
    step = max(1, BLOCK_NUMBERS // max(numbers, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _statistics(
    values: NDArray[np.floating[Any]], mask: NDArray[np.bool_], kind: Kind
) -> tuple[FloatArray, FloatArray]:
    """Centre and scale over the first axis, of the rows where the mask holds.

    Networks read 0 where a bar is missing, so 0 lies in the middle of every kind. Deviations are
    taken from the minimum, so that the scale of a constant is 0 exactly.
    """
    if kind == "robust":
        known = np.where(mask, values, np.nan)
        first, median, third = np.nanpercentile(known, (25, 50, 75), axis=0).astype(np.float64)
        return median, third - first
    exact = values.astype(np.float64)
    if kind == "zero_mean":
        scale = np.sqrt(np.mean(np.square(exact), axis=0, where=mask))
        return np.zeros_like(scale), scale
    lowest = np.min(exact, axis=0, where=mask, initial=np.inf)
    exact -= lowest
    if kind == "minmax":
        span = np.max(exact, axis=0, where=mask, initial=0.0)
        return lowest + span / 2, span
    return (
        lowest + np.mean(exact, axis=0, where=mask),
        np.std(exact, axis=0, where=mask),
    )
