"""The state of the detectors of a model version, and the alarm that they raise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from stock_assets.evaluation.change_detection import DetectorBounds, Source, follow


@dataclass(frozen=True)
class DetectorState:
    """A detector after a session.

    Attributes
    ----------
    evidence : float
        ``M``, the mean over the rates.
    number : float or None
        The session's number, not clipped; None where it has none.
    m0, b : float
        See :class:`stock_assets.evaluation.change_detection.Bound`.
    """

    evidence: float
    number: float | None
    m0: float
    b: float


@dataclass(frozen=True)
class AlarmState:
    """The detectors after a session.

    Attributes
    ----------
    evidence : float
        Mean over the detectors.
    limit : float
        ``c``: the evidence that raises the alarm, and the bound on the expected number of sessions
        to a false one.
    source : Source
        Where the parameters come from.
    detectors : dict of str to DetectorState
        ``loss``, ``above`` and ``below``.
    path : dict of date to float
        The evidence after each session, oldest first, with four digits.
    """

    evidence: float
    limit: float
    source: Source
    detectors: dict[str, DetectorState]
    path: dict[date, float]

    @property
    def raised(self) -> bool:
        """Whether the evidence has reached the limit."""
        return self.evidence >= self.limit


def alarm_state(numbers: pd.DataFrame, bounds: DetectorBounds, limit: float) -> AlarmState:
    """Follow the detectors over the sessions since their evidence began.

    Parameters
    ----------
    numbers : DataFrame
        From :func:`stock_assets.evaluation.session_losses.session_numbers`; may be empty.
    bounds : DetectorBounds
    limit : float
        The evidence that raises the alarm.
    """
    detectors = bounds.detectors
    path = follow(
        numbers[list(detectors)].to_numpy(float),
        [bound.m0 for bound in detectors.values()],
        [bound.b for bound in detectors.values()],
    )
    evidence = path.mean(axis=1)
    newest = path[-1] if len(path) else np.zeros(len(detectors))
    states = {
        name: DetectorState(
            float(value), _known(numbers[name].iloc[-1]) if len(path) else None, bound.m0, bound.b
        )
        for value, (name, bound) in zip(newest, detectors.items(), strict=True)
    }
    return AlarmState(
        float(newest.mean()),
        limit,
        bounds.source,
        states,
        {
            pd.Timestamp(day).date(): float(f"{value:.4g}")
            for day, value in zip(numbers.index, evidence, strict=True)
        },
    )


def _known(number: float) -> float | None:
    return None if math.isnan(number) else float(number)
