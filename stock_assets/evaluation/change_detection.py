"""Sequential detection of a change for the worse, with a bound on false alarms.

A detector reads one bounded number a session and adds up evidence that its mean has risen above
``m0``. This is the Shiryaev-Roberts form of an e-detector (Shin, Ramdas and Rinaldo 2023,
"E-detectors: a nonparametric framework for sequential change detection", New England J. Statistics
in Data Science 2)::

    M <- (M + 1) * (1 + rate * (min(max(x, -b), b) - m0)),    M = 0 at the beginning

While the mean of the clipped number, given the past, is at most ``m0``, no factor has a mean above
1, so that ``M`` less the number of sessions cannot be expected to grow; hence the expected time
until ``M`` reaches ``c`` is at least ``c`` sessions. Nothing else is assumed: not independence, not
a distribution. A mean of such ``M``, here over rates and over detectors, has the same property.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FRACTIONS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
"""Rates as fractions of ``1 / (b + m0)``, the largest rate for which no factor is negative."""

MISS_MARGIN = 0.02
"""By how much the share of misses on one side may exceed its nominal share."""

DEFAULT_M0 = 0.01
SMALLEST_CLIP = 0.1
DEFAULT_MISS_CLIP = 0.5
"""The parameters of a model of which no held-out score is on record."""

_SMALLEST_MARGIN = 0.01
_NORMAL_99 = 2.576
_LARGEST = 1e12


class Source(StrEnum):
    """Where the parameters of detectors come from."""

    HELD_OUT = "held_out"
    """The held-out sessions of the promotion decision."""
    RECORDED_SCORES = "recorded_scores"
    """The scores of a decision of an earlier version, which recorded no numbers by session."""
    DEFAULT = "default"
    """There is no decision about the version."""


@dataclass(frozen=True)
class Bound:
    """The parameters of a detector.

    Attributes
    ----------
    m0 : float
        The mean that the clipped number may have without being evidence.
    b : float
        Numbers are clipped to -b and b.
    """

    m0: float
    b: float


@dataclass(frozen=True)
class DetectorBounds:
    """The parameters of the three detectors of a model version.

    Attributes
    ----------
    loss, above, below : Bound
        Of the columns of :func:`stock_assets.evaluation.session_losses.session_numbers`.
    source : Source
    sessions : int
        Held-out sessions that they rest on.
    """

    loss: Bound
    above: Bound
    below: Bound
    source: Source
    sessions: int

    @property
    def detectors(self) -> dict[str, Bound]:
        """The bounds by detector, in the order of the columns of the numbers."""
        return {"loss": self.loss, "above": self.above, "below": self.below}


def held_out_bounds(numbers: pd.DataFrame, coverage: float) -> DetectorBounds:
    """Fix the parameters from the numbers of held-out sessions.

    Parameters
    ----------
    numbers : DataFrame
        From :func:`stock_assets.evaluation.session_losses.session_numbers`.
    coverage : float
        Nominal coverage of the intervals. Half of the misses are expected on each side.
    """
    loss = numbers["loss"].to_numpy(float)
    if len(loss) < 2:
        return default_bounds(coverage)
    m0, b = loss_bound(loss)
    nominal = miss_bound(coverage)
    above, below = (
        Bound(nominal, float(clip(np.quantile(numbers[side].fillna(0.0), 0.99), nominal)))
        for side in ("above", "below")
    )
    return DetectorBounds(Bound(float(m0), float(b)), above, below, Source.HELD_OUT, len(loss))


def recorded_bounds(scores: Mapping[str, Any], coverage: float) -> DetectorBounds:
    """Derive the parameters from the pooled scores of held-out sessions.

    The number of a session is ``(r - 1) / (r + 1)`` for ``r`` its relative MAE; its standard error
    is that of the relative MAE times ``2 / (r + 1)**2``, to first order. The quantile is that of a
    normal distribution.

    Parameters
    ----------
    scores : mapping
        ``relative_mae``, ``relative_mae_se`` and ``sessions``; None where one is undefined.
    coverage : float
        As for `held_out_bounds`.
    """
    ratio, spread, sessions = (
        scores.get(name) for name in ("relative_mae", "relative_mae_se", "sessions")
    )
    if ratio is None or spread is None or not sessions:
        return default_bounds(coverage)
    mean, error = (ratio - 1) / (ratio + 1), 2 * spread / (ratio + 1) ** 2
    m0, b = _bound(mean, error, abs(mean) + _NORMAL_99 * error * np.sqrt(sessions))
    misses = _default_misses(coverage)
    return DetectorBounds(
        Bound(float(m0), float(b)), misses, misses, Source.RECORDED_SCORES, int(sessions)
    )


def default_bounds(coverage: float) -> DetectorBounds:
    """Return the parameters of a version without recorded scores."""
    misses = _default_misses(coverage)
    return DetectorBounds(Bound(DEFAULT_M0, SMALLEST_CLIP), misses, misses, Source.DEFAULT, 0)


def _default_misses(coverage: float) -> Bound:
    return Bound(miss_bound(coverage), DEFAULT_MISS_CLIP)


def miss_bound(coverage: float) -> float:
    """Return ``m0`` of the share of misses on one side: the nominal share and a margin."""
    return round((1 - coverage) / 2 + MISS_MARGIN, 12)


def loss_bound(numbers: NDArray[np.floating[Any]]) -> tuple[FloatArray, FloatArray]:
    """Return ``m0`` and ``b`` of the loss for the numbers of held-out sessions.

    ``m0`` is their mean, or zero if that is negative, and a margin of two standard errors, at least
    0.01. ``b`` is the `clip` of the 99% quantile of their absolute values.

    Parameters
    ----------
    numbers : ndarray (..., T)
        One per session, at least two, without NaN.

    Returns
    -------
    ndarray (...), ndarray (...)
    """
    error = numbers.std(axis=-1, ddof=1) / np.sqrt(numbers.shape[-1])
    return _bound(numbers.mean(axis=-1), error, np.quantile(np.abs(numbers), 0.99, axis=-1))


def _bound(mean: Any, error: Any, largest: Any) -> tuple[FloatArray, FloatArray]:
    m0 = np.maximum(mean, 0.0) + np.maximum(_SMALLEST_MARGIN, 2 * error)
    return m0, clip(largest, m0)


def clip(largest: Any, m0: Any) -> FloatArray:
    """Return ``b`` for the 99% quantile of absolute held-out numbers.

    It is at least `SMALLEST_CLIP` and twice ``m0``: with ``b`` below ``m0`` no number would count
    as evidence.
    """
    limit: FloatArray = np.maximum(np.maximum(SMALLEST_CLIP, largest), 2 * np.asarray(m0))
    return limit


def advance(evidence: FloatArray, numbers: Any, m0: Any, b: Any) -> FloatArray:
    """Add a session to the evidence of one or more detectors.

    Parameters
    ----------
    evidence : ndarray (..., 5)
        ``M`` by rate; zeros at the beginning.
    numbers, m0, b : array_like (...)
        The session's numbers and the parameters of the detectors. A detector without a number (NaN)
        keeps its evidence.
    """
    numbers, m0, b = (np.asarray(value, float)[..., np.newaxis] for value in (numbers, m0, b))
    factor = 1 + FRACTIONS / (b + m0) * (np.clip(numbers, -b, b) - m0)
    grown = np.minimum((evidence + 1) * factor, _LARGEST)
    return np.where(np.isnan(numbers), evidence, grown)


def follow(numbers: NDArray[np.floating[Any]], m0: Any, b: Any) -> FloatArray:
    """Return the evidence of each detector after each session.

    Parameters
    ----------
    numbers : ndarray (T, D)
        One row per session, oldest first, one column per detector.
    m0, b : array_like (D,)

    Returns
    -------
    ndarray (T, D)
        ``M``, the mean over the rates. The evidence of the whole rule is its mean over detectors.
    """
    evidence = np.zeros((numbers.shape[1], len(FRACTIONS)))
    path = np.empty(numbers.shape)
    for session, row in enumerate(numbers):
        evidence = advance(evidence, row, m0, b)
        path[session] = evidence.mean(axis=-1)
    return path
