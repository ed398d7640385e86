"""The benchmark of the rule that retrains: it measures the rule that is in use."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from benchmarks.policy import (
    COVERAGE,
    HELD_OUT,
    SESSIONS,
    YEAR,
    Measured,
    apply_rule,
    half_widths,
    markets,
    real_returns,
    score,
    simulated,
)
from stock_assets.config import Monitoring
from stock_assets.evaluation.change_detection import held_out_bounds
from stock_assets.evaluation.metrics import score_rows
from stock_assets.evaluation.retraining_rule import Production, decide_retraining
from stock_assets.evaluation.session_losses import session_numbers
from stock_assets.market.calendar import sessions

TICKERS = list("ABCDE")
DAYS = pd.DatetimeIndex(sessions(date(2011, 1, 3), date(2012, 6, 29))[: HELD_OUT + YEAR + 1])


def rows_of(worse: float, seed: int) -> pd.DataFrame:
    """One simulated year of forecasts of no change as scored rows; worse after the promotion."""
    returns = simulated(5, np.random.default_rng(seed), 1)
    widths = half_widths(returns)[0].astype(float)
    moves = returns[0, -HELD_OUT - YEAR :].astype(float)
    factor = np.where(np.arange(len(moves)) < HELD_OUT, 1.0, worse)[:, np.newaxis]
    forecast = moves - factor * moves
    prices = {name: 100 * (1 + value) for name, value in (("actual", moves), ("own", forecast))}
    return score_rows(
        pd.DataFrame(
            {
                "session": DAYS[1:].repeat(5),
                "as_of_session": DAYS[:-1].repeat(5),
                "ticker": TICKERS * len(moves),
                "horizon": 1,
                "persistence": 100.0,
                "actual": prices["actual"].ravel(),
                "predicted": prices["own"].ravel(),
                "lower": (prices["own"] - 100 * widths).ravel(),
                "upper": (prices["own"] + 100 * widths).ravel(),
                "issued": "live",
            }
        )
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("case", "worse"), [("error_times_2", 2.0), ("error_plus_25", 1.25)])
def test_it_finds_a_bad_model_in_the_session_in_which_the_rule_in_use_does(
    case: str, worse: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = {
        (kind, name): found for kind, name, found in score(rng, simulated(5, rng, 1), curves=False)
    }
    first = apply_rule(scores[case, "no_change"])["first"].item()
    rows = rows_of(worse, seed)
    held_out = rows["session"] <= DAYS[HELD_OUT]
    bounds = held_out_bounds(session_numbers(rows[held_out]), COVERAGE)
    production = Production(1, DAYS[HELD_OUT].date(), bounds)
    decided = [
        decide_retraining(rows[rows["session"] <= day], production, None, None, Monitoring(), 63)
        for day in DAYS[HELD_OUT + 1 : HELD_OUT + first + 1]
    ]
    assert [one.retrain for one in decided] == [False] * (first - 1) + [True]


def test_a_hundred_years_of_five_tickers_reach_what_is_promised() -> None:
    """The whole run, of 1,000 years at three sizes, is in docs/policy.md."""
    measured = Measured(with_curves=False)
    measured.run(np.random.default_rng(1), markets([5], real_returns(None))["simulated_5"], 100)
    found = measured.summary()
    assert found["most_false_retrains_a_quarter"] <= 0.10
    for case, sessions_at_most in (
        ("error_times_2", 5),
        ("scrambled_prices", 5),
        ("error_plus_25", 25),
        ("error_plus_10", 45),
    ):
        assert found["bad"][case]["median_sessions"] <= sessions_at_most
        assert found["bad"][case]["missed"] <= 0.02


def test_simulated_returns_are_correlated_fat_tailed_and_cluster() -> None:
    returns = simulated(20, np.random.default_rng(2), 40)
    assert returns.shape == (40, SESSIONS, 20)
    standard = returns / returns.std(axis=1, keepdims=True)
    pairs = np.array([np.corrcoef(year.T)[np.triu_indices(20, 1)].mean() for year in standard])
    assert 0.25 < pairs.mean() < 0.45
    assert (standard**4).mean() > 4
    sizes = np.abs(standard).mean(axis=2)
    later = [np.corrcoef(year[:-5], year[5:])[0, 1] for year in sizes]
    assert np.mean(later) > 0.1
