"""Drift: how far the distribution of a model's inputs is from that of its training inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BINS = 10
"""Bins of a feature's training rows, as equally filled as ties allow."""

_PSEUDO_COUNT = 0.5
_BASELINE_QUANTILE = 0.95

FloatArray = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reference:
    """The distribution of the features in training.

    Attributes
    ----------
    edges : (F, 9) float64
        Deciles of the training rows, from `reference_edges`.
    counts : (F, 10) int64
        Training rows in each bin. With ties the counts differ: one bin has every row of a feature
        that never varied.
    sessions : int
        Length of the windows that are compared with training.
    baseline_p95 : (F,) float64
        The 95th percentile of the index over such windows of training itself.
    """

    edges: FloatArray
    counts: Counts
    sessions: int
    baseline_p95: FloatArray

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return int(self.counts[0].sum())

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers only, for JSON; `from_dict` restores the same bits."""
        return {
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "sessions": self.sessions,
            "usual": self.baseline_p95.tolist(),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Reference:
        """Rebuild a reference from `to_dict`."""
        return cls(
            edges=np.array(content["edges"], dtype=np.float64),
            counts=np.array(content["counts"], dtype=np.int64),
            sessions=content["sessions"],
            baseline_p95=np.array(content["usual"], dtype=np.float64),
        )


def reference_edges(rows: NDArray[np.floating[Any]]) -> FloatArray:
    """Compute the deciles of each feature, (F, 9), of rows (R, F) without NaN.

    The k-th decile is the smallest value that at least k tenths of the rows do not exceed. Where
    deciles coincide, half of them are lowered by one float step, so that a frequent value has its
    own bin.
    """
    order = np.arange(1, BINS)
    deciles = np.quantile(rows, order / BINS, axis=0, method="inverted_cdf").T + 0.0  # no -0.0
    below, within = (
        compare(deciles[:, np.newaxis], deciles[:, :, np.newaxis]).sum(axis=-1)
        for compare in (np.less, np.less_equal)
    )
    next_smaller = np.nextafter(deciles, -np.inf, dtype=rows.dtype)
    edges = np.where(order <= (below + within) // 2, next_smaller, deciles)
    return np.ascontiguousarray(edges, dtype=np.float64)


def count_rows(rows: NDArray[np.floating[Any]], edges: FloatArray) -> Counts:
    """Count the rows in each bin, (..., F, 10), of rows (..., R, F); NaN is in no bin.

    A bin includes its upper edge and not its lower one. The outer bins are open, and a bin between
    equal edges is empty.
    """
    known = np.count_nonzero(~np.isnan(rows), axis=-2)
    above = [np.count_nonzero(rows > edge, axis=-2) for edge in edges.T]
    at_least = np.stack([known, *above, np.zeros_like(known)], axis=-1)
    return -np.diff(at_least, axis=-1)


def stability(counts: Counts, reference: Counts) -> FloatArray:
    """Compute the population stability index of each feature: sum of (p - q) ln(p / q) over bins.

    p and q are the shares of the rows in a bin, now and in training (Siddiqi 2006, "Credit Risk
    Scorecards"). Half a row is added to each bin on both sides, so that the logarithm of an empty
    bin is defined; a bin that is empty on both sides is ignored.

    Parameters
    ----------
    counts : (..., F, 10) int64
        Rows in each bin now.
    reference : (F, 10) int64
        The same of training.

    Returns
    -------
    (..., F) float64
        0 where the shares are equal, positive elsewhere; NaN where there is no row now.
    """
    used = (counts > 0) | (reference > 0)
    now, then = (_shares(rows, used) for rows in (counts, reference))
    ratio = np.divide(now, then, out=np.ones_like(now), where=used)
    index = ((now - then) * np.log(ratio)).sum(axis=-1)
    return np.where(counts.any(axis=-1), index, np.nan)


def _shares(counts: Counts, used: NDArray[np.bool_]) -> FloatArray:
    filled = np.where(used, counts + _PSEUDO_COUNT, 0.0)
    shares: FloatArray = filled / filled.sum(axis=-1, keepdims=True)
    return shares


def window_counts(by_session: Counts, sessions: int) -> Counts:
    """Sum counts (T, F, 10) over every window of `sessions`, (T - sessions + 1, F, 10)."""
    summed = np.zeros((len(by_session) + 1, *by_session.shape[1:]), dtype=np.int64)
    by_session.cumsum(axis=0, out=summed[1:])
    return summed[sessions:] - summed[:-sessions]


def baseline_p95(by_session: Counts, sessions: int) -> FloatArray:
    """Compute the 95th percentile of the index of training windows against all of training.

    The textbook threshold, a quantile of chi-squared, assumes independent rows. Neighbouring
    sessions, and tickers on one day, are correlated, so that a calm month differs strongly from
    years of training; this percentile accounts for that.

    Parameters
    ----------
    by_session : (T, F, 10) int64
        Rows in each bin, of each training session.
    sessions : int
        Length of a window; all sessions are one window where there are fewer.

    Returns
    -------
    (F,) float64
    """
    windows = window_counts(by_session, min(sessions, len(by_session)))
    level: FloatArray = np.nanquantile(
        stability(windows, by_session.sum(axis=0)), _BASELINE_QUANTILE, axis=0
    )
    return level


def no_drift() -> pd.DataFrame:
    """Return the drift of persistence, which has no inputs: a table without rows."""
    dtypes = {
        "as_of_session": "datetime64[ns]",
        "feature": "object",
        "psi": "float64",
        "rows": "int64",
        "baseline_p95": "float64",
    }
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()})
