"""Small pictures in a table's rows, drawn as SVG for all tickers at once."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 120, 28
_MARGIN = 2
_STEPS = 2  # of height per pixel


def sparklines(closes: NDArray[np.float64]) -> list[str]:
    """Return the points of the line of each row, oldest left, scaled to its range.

    Parameters
    ----------
    closes : ndarray (tickers, sessions)
        NaN where there is no close.

    Returns
    -------
    list of str
        What an SVG ``polyline`` of `WIDTH` times `HEIGHT` takes as ``points``; empty with fewer
        than two closes.
    """
    known = np.isfinite(closes)
    low = np.where(known, closes, np.inf).min(axis=1, keepdims=True)
    high = np.where(known, closes, -np.inf).max(axis=1, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    steps = (HEIGHT - 2 * _MARGIN) * _STEPS
    down = np.where(known, steps * (high - closes) / span, 0).round().astype(int)
    points = _points(closes.shape[1])[np.arange(closes.shape[1]), down]
    lines = [" ".join(row[have]) for row, have in zip(points, known, strict=True)]
    return [line if many else "" for line, many in zip(lines, known.sum(axis=1) > 1, strict=True)]


@cache
def _points(sessions: int) -> NDArray[np.object_]:
    """Write every point there can be, by its session and its step from the top."""
    across = np.linspace(_MARGIN, WIDTH - _MARGIN, sessions)
    steps = (HEIGHT - 2 * _MARGIN) * _STEPS + 1
    down = _MARGIN + np.arange(steps) / _STEPS
    return np.array([[f"{x:.0f},{y:g}" for y in down] for x in across], dtype=object)
