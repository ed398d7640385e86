"""Findings of proofs: the outcome of each part, and of a whole proof."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

NUMBERS = (
    "last_close",
    "predicted_return",
    "predicted_price",
    "lower_price",
    "upper_price",
    "coverage",
)
"""The numbers of a forecast, which are compared to the bit."""

TOLERANCE = 1e-5
"""Largest difference of computed values where the environment is not known to be the same.

Relative for prices, absolute for returns; of the values of a panel relative to the largest of
their feature, of scalers to the scale.
"""

WEIGHT_TOLERANCE = 1e-3
"""Largest difference of weights trained again elsewhere, relative to the norm of their tensor.

Training amplifies rounding: each step starts from the weights of the one before.
"""

ENVIRONMENT = "environment"
"""Name of the part that compares the environment: it decides how exactly others must agree."""


class Outcome(StrEnum):
    """Whether a part of a proof holds."""

    HOLDS = "holds"
    CLOSE = "within the tolerance"
    DIFFERS = "differs"
    """Of an environment, which may differ where the numbers agree."""
    NOT_RECORDED = "not recorded"
    FAILS = "fails"


@dataclass(frozen=True)
class Finding:
    """A part of a proof: its outcome, a message for people, and its own parts."""

    name: str
    outcome: Outcome
    message: str
    parts: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Proof:
    """An issued forecast and the findings of its proof, from the number back to rows."""

    forecast: Mapping[str, Any]
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of its parts."""
        return worst(self.findings)

    @property
    def holds(self) -> bool:
        """Whether no part fails."""
        return self.outcome != Outcome.FAILS


def worst(findings: Sequence[Finding]) -> Outcome:
    """Return the outcome of a part from those of its own parts, the environment left out."""
    order = (Outcome.FAILS, Outcome.NOT_RECORDED, Outcome.CLOSE)
    outcomes = {finding.outcome for finding in findings if finding.name != ENVIRONMENT}
    return next((outcome for outcome in order if outcome in outcomes), Outcome.HOLDS)


def compare_environments(differing: Sequence[str], unknown: Sequence[str], same: str) -> Finding:
    """Return whether values must agree to the bit, or within a tolerance.

    Parameters
    ----------
    differing : sequence of str
        Known differences.
    unknown : sequence of str
        Facts that were not recorded.
    same : str
        The message where there is neither.
    """
    if not differing and not unknown:
        return Finding(ENVIRONMENT, Outcome.HOLDS, same)
    standard = f"computed values are compared within {TOLERANCE:g}"
    if not differing:
        return Finding(ENVIRONMENT, Outcome.NOT_RECORDED, f"{', '.join(unknown)}; {standard}")
    not_recorded = [f"{', '.join(unknown)} not recorded"] if unknown else []
    return Finding(ENVIRONMENT, Outcome.DIFFERS, "; ".join([*differing, *not_recorded, standard]))


def compare_values(
    name: str, message: str, difference: float | None, environment: Finding, tolerance: float
) -> Finding:
    """Return the outcome for values that are not equal to the bit.

    Parameters
    ----------
    name, message : str
    difference : float or None
        The largest of the values; None if they cannot be compared.
    environment : Finding
        Where it is the same, values that are not equal fail.
    tolerance : float
        The largest difference elsewhere.
    """
    if environment.outcome == Outcome.HOLDS:
        return Finding(name, Outcome.FAILS, f"{message}, in the same environment")
    if difference is None:
        return Finding(name, Outcome.FAILS, message)
    close = difference <= tolerance
    words = "other environment" if environment.outcome == Outcome.DIFFERS else "environment unknown"
    return Finding(
        name,
        Outcome.CLOSE if close else Outcome.FAILS,
        f"{message}; {words}: compared within {tolerance:g}, differs by {difference:.2g}",
    )


def numbers_of(forecast: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a forecast, with the bounds of each recorded interval."""
    intervals = forecast["intervals"] or []
    if isinstance(intervals, str):
        intervals = json.loads(intervals)
    bounds = {
        f"{bound} {interval['coverage']}": float(interval[bound])
        for interval in intervals
        for bound in ("lower", "upper")
    }
    return {name: float(forecast[name]) for name in NUMBERS} | bounds


def number_difference(name: str, then: float, now: float) -> float:
    """Return the relative difference of a price, or the absolute one of a share or a return."""
    scale = 1.0 if name in ("predicted_return", "coverage") else abs(then)
    return float(abs(now - then) / scale) if scale else float(now != then)
