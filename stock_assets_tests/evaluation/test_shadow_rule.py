"""Shadow: how often candidates take over, by simulation, and what may change a decision.

A session's losses are those of tickers with a common factor, fat tails and clustered volatility; a
forecaster adds its own noise to the forecast of no change, part of it common to all tickers.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stock_assets.evaluation.session_losses import relative_difference
from stock_assets.evaluation.shadow_rule import (
    ENOUGH,
    ShadowOutcome,
    decide_shadow,
    evidence_path,
)
from stock_assets.evaluation.significance import DEFAULT_LEVEL, diebold_mariano_tests

PERIOD, HELD_OUT = 60, 43
PROMOTING = (ShadowOutcome.BETTER, ShadowOutcome.LOWER_LOSS)


def moves(years: int, sessions: int, tickers: int, seed: int) -> NDArray[np.float64]:
    """Return (years, sessions, tickers) of daily returns."""
    random = np.random.default_rng(seed)
    log_volatility = np.zeros((years, sessions))
    for day in range(1, sessions):
        shock = 0.2 * random.standard_normal(years)
        log_volatility[:, day] = 0.95 * log_volatility[:, day - 1] + shock
    common = random.standard_t(4, (years, sessions, 1))
    own = random.standard_t(4, (years, sessions, tickers))
    scale = 0.01 * np.exp(log_volatility)[..., None]
    return scale * (0.57 * common + 0.82 * own)


def summed_losses(
    returns: NDArray[np.float64], noise: float, seed: int, bias: float = 0.0
) -> NDArray[np.float64]:
    """Return (years, sessions): the summed errors of forecasts with noise of a share of 1%."""
    random = np.random.default_rng(seed)
    shape = returns.shape
    forecast = random.standard_normal((*shape[:2], 1)) + random.standard_normal(shape)
    return np.abs(returns - noise * 0.007 * forecast - bias).sum(axis=-1)


def outcomes(
    candidate: NDArray[np.float64], production: NDArray[np.float64]
) -> list[tuple[ShadowOutcome, int]]:
    """Decide each year as in production: a loser continues for another period."""
    found = []
    paths = evidence_path(relative_difference(candidate, production))
    for path, losses in zip(paths, candidate - production, strict=True):
        outcome, session = decide_shadow(path, losses, PERIOD)
        if outcome is ShadowOutcome.LOST:
            outcome, session = decide_shadow(path, losses, PERIOD, session)
        found.append((outcome, session))
    return found


def promoted(found: list[tuple[ShadowOutcome, int]]) -> float:
    return float(np.mean([outcome in PROMOTING for outcome, _ in found]))


@pytest.mark.parametrize(("tickers", "noise"), [(5, 0.1), (5, 0.5), (5, 1.0), (50, 0.5)])
def test_of_equally_good_models_half_are_promoted(tickers: int, noise: float) -> None:
    """50 ± 3 of 100, of 4,000 retrainings: the standard error is 0.8.

    The first 43 sessions are the held-out ones before the alarm: there, a candidate that is
    significantly better is promoted at once.
    """
    returns = moves(4000, HELD_OUT + 2 * PERIOD, tickers, seed=1)
    candidate, production = (summed_losses(returns, noise, seed) for seed in (2, 3))
    tests = diebold_mariano_tests(pd.DataFrame((candidate - production)[:, :HELD_OUT].T))
    at_once = ((tests["difference"] < 0) & (tests["p_value"] < DEFAULT_LEVEL)).to_numpy()
    found = outcomes(candidate[~at_once, HELD_OUT:], production[~at_once, HELD_OUT:])
    share = at_once.mean() + (1 - at_once.mean()) * promoted(found)
    assert at_once.mean() < 0.04
    assert 0.47 <= share <= 0.53


def test_an_unlucky_production_is_not_replaced_more_often() -> None:
    """Production is selected for its 20 worst sessions of 1,000 years; later ones decide.

    Decided on the sessions that selected it, the candidate would win nearly always.
    """
    before, after = moves(8000, 20, 5, seed=4), moves(8000, 2 * PERIOD, 5, seed=5)
    unlucky_candidate, unlucky = summed_losses(before, 0.5, 6), summed_losses(before, 0.5, 7)
    excess = relative_difference(unlucky, np.abs(before).sum(axis=-1)).mean(axis=1)
    alarmed = excess > np.quantile(excess, 0.8)
    on_the_alarm = (unlucky_candidate.sum(axis=1) < unlucky.sum(axis=1))[alarmed]
    candidate, production = summed_losses(after, 0.5, 8), summed_losses(after, 0.5, 9)
    assert on_the_alarm.mean() > 0.7
    assert 0.47 <= promoted(outcomes(candidate[alarmed], production[alarmed])) <= 0.53


def test_a_candidate_that_is_no_better_reaches_the_evidence_at_most_once_in_20() -> None:
    returns = moves(2000, 252, 5, seed=10)
    for noise in (1.0, 1.3):
        candidate, production = summed_losses(returns, noise, 11), summed_losses(returns, 1.0, 12)
        paths = evidence_path(relative_difference(candidate, production))
        assert np.mean(paths.max(axis=1) >= ENOUGH) <= 1 / ENOUGH


def test_a_much_better_candidate_is_promoted_within_15_sessions() -> None:
    """Production forecasts scrambled prices: its errors are several times those of no change."""
    returns = moves(1000, 2 * PERIOD, 5, seed=13)
    found = outcomes(summed_losses(returns, 0.3, 14), summed_losses(returns, 0.3, 15, bias=0.05))
    assert promoted(found) == 1.0
    assert np.median([session for _, session in found]) <= 15


def test_a_candidate_with_a_tenth_less_error_is_promoted_nearly_always() -> None:
    returns = moves(1000, 2 * PERIOD, 5, seed=16)
    production = summed_losses(returns, 0.3, 17)
    found = outcomes(0.9 * summed_losses(returns, 0.3, 18), production)
    assert promoted(found) >= 0.98


def test_a_much_worse_candidate_is_never_promoted() -> None:
    returns = moves(1000, 2 * PERIOD, 5, seed=19)
    candidate = 1.25 * summed_losses(returns, 0.3, 20)
    assert promoted(outcomes(candidate, summed_losses(returns, 0.3, 21))) == 0.0


differences = st.lists(st.floats(-1, 1), min_size=1, max_size=3 * PERIOD)


@given(differences, differences)
def test_later_sessions_change_no_decision(first: list[float], later: list[float]) -> None:
    path, whole = evidence_path(first), evidence_path(first + later)
    assert whole[: len(first)].tolist() == path.tolist()
    outcome, session = decide_shadow(path, first, PERIOD)
    if outcome is not ShadowOutcome.OPEN:
        assert decide_shadow(whole, first + later, PERIOD) == (outcome, session)


@given(differences)
def test_evidence_is_a_wealth_that_is_never_lost(values: list[float]) -> None:
    path = evidence_path(values)
    assert (path > 0).all()
    assert path[0] == pytest.approx(1 - np.mean((0.05, 0.1, 0.2, 0.4, 0.8)) * values[0])


def test_equal_losses_are_no_lower_loss_and_the_shadow_ends_after_two_periods() -> None:
    path, losses = evidence_path([0.0] * 2 * PERIOD), [0.0] * 2 * PERIOD
    assert decide_shadow(path, losses, PERIOD) == (ShadowOutcome.LOST, PERIOD)
    assert decide_shadow(path, losses, PERIOD, PERIOD) == (ShadowOutcome.LOST, 2 * PERIOD)
    assert decide_shadow(path[:59], losses, PERIOD) == (ShadowOutcome.OPEN, 59)


def test_a_loser_needs_the_evidence() -> None:
    values = [0.05] * PERIOD + [-0.02] * PERIOD
    path, losses = evidence_path(values), values
    assert decide_shadow(path, losses, PERIOD)[0] is ShadowOutcome.LOST
    assert decide_shadow(path, losses, PERIOD, PERIOD) == (ShadowOutcome.LOST, 2 * PERIOD)
    strong = [0.01] * PERIOD + [-0.5] * PERIOD
    outcome, session = decide_shadow(evidence_path(strong), strong, PERIOD, PERIOD)
    assert outcome is ShadowOutcome.BETTER
    assert PERIOD < session < PERIOD + 20
