"""Fits scalers and the drift reference to the sessions that training windows read, no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stock_assets.config import Dataset
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.drift import BINS, Reference, baseline_p95, count_rows, reference_edges
from stock_assets.features.splits import Segment, sessions_read

Kind = Literal["standard", "minmax", "robust", "zero_mean"]
FloatArray = NDArray[np.float64]

BLOCK_NUMBERS = 8_000_000
"""Panel values processed at a time, which bounds the memory for their copies."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """``scaled = (value - centre) / scale``, per ticker and feature.

    Attributes
    ----------
    kind : Kind
        ``standard`` (mean, standard deviation), ``minmax`` (middle of the range, range), ``robust``
        (median, interquartile range) or ``zero_mean`` (0, root mean square; for returns, so that a
        scaled 0 still means "no change").
    centre, scale : (N, F) float64
        In the units of the feature. A scale of 0 in float32 is replaced by 1: the feature is
        constant, or for ``robust`` nearly so.
    rows : (N,) int64
        Valid training rows of each ticker.
    pooled : (N,) bool
        True for a ticker with too few rows, which has the statistics of all tickers together.
    """

    kind: Kind
    centre: FloatArray
    scale: FloatArray
    rows: NDArray[np.int64]
    pooled: NDArray[np.bool_]

    def transform(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Scale values of shape (..., N, F) in 32-bit arithmetic; NaN stays NaN.

        Values outside the fitted range are not clipped.
        """
        scaled: NDArray[np.float32]
        scaled = np.subtract(values, self.centre, dtype=np.float32, casting="same_kind")
        scaled /= self.scale.astype(np.float32)
        return scaled

    def inverse(self, scaled: NDArray[np.floating[Any]]) -> FloatArray:
        """Invert `transform` up to float32 rounding: (..., N, F) in the feature's units."""
        values: FloatArray = np.multiply(scaled, self.scale)
        values += self.centre
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `from_dict` restores the same bits."""
        return {
            "kind": self.kind,
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "rows": self.rows.tolist(),
            "pooled": self.pooled.tolist(),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Scaler:
        """Restore a scaler from `to_dict`."""
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
    """Fit a scaler to all given sessions.

    Parameters
    ----------
    values : (T, N, F) float
        Features, ignored where not valid.
    valid : (T, N) bool
        Rows to fit to.
    kind : Kind
        See `Scaler`.
    minimum_rows : int
        A ticker with fewer valid rows, or none, has the statistics of all valid rows together.

    Raises
    ------
    StockAssetsError
        No row is valid.
    """
    rows = valid.sum(axis=0)
    if not rows.any():
        raise StockAssetsError(
            "no training session has a complete row of features to fit a scaler to",
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
    """Split `count` items of `numbers` values each into blocks of about `BLOCK_NUMBERS` values."""
    step = max(1, BLOCK_NUMBERS // max(numbers, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _statistics(
    values: NDArray[np.floating[Any]], mask: NDArray[np.bool_], kind: Kind
) -> tuple[FloatArray, FloatArray]:
    """Compute centre and scale over the first axis, of the rows in the mask.

    Networks read 0 where a bar is missing, so every kind is centred on 0. Values are taken relative
    to the minimum, so that the scale of a constant is exactly 0.
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


def fit_scalers(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    target: NDArray[np.float64],
    train: Segment,
    dataset: Dataset,
) -> tuple[Scaler, Scaler]:
    """Fit the feature scaler and the target scaler to the sessions that training windows read.

    Log returns are scaled about zero, so that a scaled forecast of 0 is persistence. Closes are
    scaled like the features.
    """
    seen = sessions_read(train, dataset.window)
    features = fit_scaler(values[seen], valid[seen], dataset.scaler)
    labels, known = target[seen, :, None], np.isfinite(target[seen])
    kind = "zero_mean" if dataset.target == "log_return" else dataset.scaler
    return features, fit_scaler(labels, known & valid[seen], kind)


def fit_reference(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    scaler: Scaler,
    train: Segment,
    window: int,
    sessions: int,
) -> Reference:
    """Compute the distribution of scaled features in the sessions that training windows read.

    Parameters
    ----------
    values, valid : (T, N, F) and (T, N) arrays
        Of the panel: NaN where not valid. The valid rows of all tickers are pooled.
    scaler : Scaler
        Fitted to the same sessions.
    train : Segment
    window : int
        Sessions per window.
    sessions : int
        Number of sessions whose inputs are later compared with the reference.
    """
    seen = sessions_read(train, window)
    values, valid = values[seen], valid[seen]
    edges = np.empty((values.shape[2], BINS - 1))
    counts = np.empty((len(values), values.shape[2], BINS), dtype=np.int64)
    for columns in blocks(values.shape[2], valid.size):
        own = replace(scaler, centre=scaler.centre[:, columns], scale=scaler.scale[:, columns])
        rows = own.transform(values[:, :, columns])
        edges[columns] = reference_edges(rows[valid])
        counts[:, columns] = count_rows(rows, edges[columns])
    return Reference(edges, counts.sum(axis=0), sessions, baseline_p95(counts, sessions))
