"""Change detection: the bound on false alarms, what is detected, and how parameters are fixed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stock_assets.evaluation.change_detection import (
    FRACTIONS,
    Bound,
    Source,
    advance,
    default_bounds,
    follow,
    held_out_bounds,
    recorded_bounds,
)

FloatArray = NDArray[np.float64]

M0 = np.array([0.02, 0.07, 0.07])
B = np.array([0.1, 0.4, 0.4])
LIMIT = 100


def independent(rng: np.random.Generator, years: int, before: FloatArray) -> FloatArray:
    """Numbers of two values about m0, each detector by itself."""
    up = rng.random((years, 3)) < 0.5
    return np.where(up, 1, -1) * 0.05 + M0


def together(rng: np.random.Generator, years: int, before: FloatArray) -> FloatArray:
    """All detectors see the same move, rare and large, as where all tickers fall in one session."""
    up = rng.random((years, 1)) < 0.1
    return np.where(up, B, (M0 - 0.1 * B) / 0.9)


def driven_by_the_past(rng: np.random.Generator, years: int, before: FloatArray) -> FloatArray:
    """The spread depends on the evidence so far, the mean does not."""
    spread = np.where(before.mean(axis=(1, 2)) > 5, 1.0, 0.2)[:, np.newaxis]
    return M0 + np.where(rng.random((years, 3)) < 0.5, 1, -1) * spread * (B - M0) * 0.9


@pytest.mark.parametrize("draw", [independent, together, driven_by_the_past])
def test_the_expected_time_to_a_false_alarm_is_at_least_the_limit(
    draw: Callable[[np.random.Generator, int, FloatArray], FloatArray],
) -> None:
    """Over 4,000 runs whose means are exactly m0, the worst that the bound allows.

    Runs are cut at 20 times the limit, which only shortens them. The standard error of the mean is
    about 2% of it.
    """
    rng, runs = np.random.default_rng(7), 4_000
    evidence = np.zeros((runs, 3, len(FRACTIONS)))
    length = np.zeros(runs)
    running = np.ones(runs, bool)
    for _ in range(20 * LIMIT):
        evidence = advance(evidence, draw(rng, runs, evidence), M0, B)
        length += running
        running &= evidence.mean(axis=(1, 2)) < LIMIT
    assert length.mean() >= 0.95 * LIMIT


def test_a_bound_that_is_exceeded_is_found_soon() -> None:
    numbers = np.random.default_rng(3).normal(0.08, 0.05, (200, 1))
    path = follow(numbers, M0[:1], B[:1])[:, 0]
    assert 15 < int((path >= 252).argmax()) < 40


@settings(deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=40),
    st.floats(0.0, 0.4),
    st.floats(0.1, 1.0),
)
def test_evidence_is_never_negative_and_finite(numbers: list[float], m0: float, b: float) -> None:
    path = follow(np.array(numbers)[:, np.newaxis], [m0], [max(b, 2 * m0)])
    assert np.isfinite(path).all()
    assert (path > 0).all()


def test_the_recursion_is_that_of_shiryaev_and_roberts() -> None:
    numbers, (m0, b) = [0.05, -0.3, 0.2], (0.02, 0.1)
    rates = [fraction / (b + m0) for fraction in FRACTIONS]
    by_hand = [
        sum(
            np.prod([1 + rate * (min(max(x, -b), b) - m0) for x in numbers[first:]])
            for first in range(3)
        )
        for rate in rates
    ]
    assert follow(np.array([numbers]).T, [m0], [b])[-1, 0] == pytest.approx(np.mean(by_hand))


def test_a_session_without_a_number_keeps_the_evidence() -> None:
    numbers = np.array([[0.05], [np.nan], [0.05]])
    path = follow(numbers, [0.02], [0.1])[:, 0]
    assert path[1] == path[0]
    assert path[2] == follow(numbers[[0, 2]], [0.02], [0.1])[-1, 0]


def reads_later_sessions(path_of: Callable[[FloatArray], FloatArray]) -> bool:
    """Whether the evidence after a session changes with the numbers of later ones."""
    numbers = np.random.default_rng(5).normal(0.02, 0.1, (40, 3))
    changed = numbers.copy()
    changed[25:] = 1.0
    return bool((path_of(numbers)[:25] != path_of(changed)[:25]).any())


def test_evidence_reads_no_later_session() -> None:
    assert not reads_later_sessions(lambda numbers: follow(numbers, M0, B))


def test_a_planted_look_ahead_is_found() -> None:
    assert reads_later_sessions(lambda numbers: follow(np.roll(numbers, -1, axis=0), M0, B))


def held_out(loss: FloatArray) -> pd.DataFrame:
    """Held-out sessions; one ticker in ten above and none below its interval."""
    return pd.DataFrame({"loss": loss, "above": 0.1, "below": 0.0})


def test_parameters_come_from_the_held_out_sessions() -> None:
    loss = np.random.default_rng(1).normal(0.03, 0.06, 63)
    found = held_out_bounds(held_out(loss), 0.9)
    error = loss.std(ddof=1) / np.sqrt(63)
    assert found.loss.m0 == pytest.approx(loss.mean() + 2 * error)
    assert found.loss.b == pytest.approx(np.quantile(np.abs(loss), 0.99))
    assert found.above == found.below == Bound(0.07, pytest.approx(0.14))
    assert (found.source, found.sessions) == (Source.HELD_OUT, 63)


def test_a_model_near_persistence_has_the_least_margin_and_clip() -> None:
    found = held_out_bounds(held_out(np.full(63, -0.001)), 0.9)
    assert found.loss == Bound(0.01, 0.1)


def test_a_poor_model_is_not_invisible_to_its_detector() -> None:
    """Of a steady loss the 99% quantile lies below m0, and clipped numbers would never count."""
    loss = 0.23 + np.random.default_rng(2).normal(0, 0.01, 63)
    bound = held_out_bounds(held_out(loss), 0.9).loss
    assert np.quantile(np.abs(loss), 0.99) < bound.m0 + 0.02
    worse = np.full((60, 1), 0.5)
    assert follow(worse, [bound.m0], [bound.b])[-1, 0] > 252


def test_scores_on_record_give_nearly_the_parameters_of_their_sessions() -> None:
    rng = np.random.default_rng(4)
    persistence = rng.gamma(4.0, 0.01, 63)
    losses = persistence * np.exp(rng.normal(0.05, 0.1, 63))
    ratio = losses.sum() / persistence.sum()
    influence = (losses - ratio * persistence) / persistence.mean()
    scores = {
        "relative_mae": ratio,
        "relative_mae_se": influence.std(ddof=1) / np.sqrt(63),
        "sessions": 63,
    }
    exact = held_out_bounds(held_out((losses - persistence) / (losses + persistence)), 0.9)
    derived = recorded_bounds(scores, 0.9)
    assert derived.loss.m0 == pytest.approx(exact.loss.m0, abs=0.01)
    assert derived.loss.b == pytest.approx(exact.loss.b, abs=0.05)
    assert derived.source is Source.RECORDED_SCORES


@pytest.mark.parametrize(
    "scores", [{}, {"relative_mae": None, "relative_mae_se": 0.1, "sessions": 63}]
)
def test_without_scores_on_record_there_are_defaults(scores: dict[str, float | None]) -> None:
    found = recorded_bounds(scores, 0.8)
    assert found == default_bounds(0.8) == held_out_bounds(held_out(np.zeros(1)), 0.8)
    assert (found.loss, found.above.m0) == (Bound(0.01, 0.1), pytest.approx(0.12))
    assert found.source is Source.DEFAULT
