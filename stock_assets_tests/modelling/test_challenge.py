"""The challenge: everyone is scored on the same pairs, through the path that serves."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from stock_assets.config import Rename
from stock_assets.evaluation.metrics import summarise
from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.modelling.bundle import Bundle
from stock_assets.modelling.challenge import Challenge, challenge
from stock_assets_tests.modelling.bundles import bundle, same_frame, sample_bars

HELD_OUT = calendar.sessions(date(2012, 11, 1), date(2012, 12, 31))
CANDIDATE, PRODUCTION = bundle(), bundle(seed=2)


def pairs(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(rows[["session", "ticker"]].itertuples(index=False, name=None))


def without_ticker(ticker: str) -> Bundle:
    """A model that was never trained on a ticker."""
    bars = sample_bars()
    return bundle(bars=bars[bars["ticker"] != ticker].reset_index(drop=True), seed=3)


def assert_same_pairs(outcome: Challenge) -> None:
    assert outcome.production is not None
    assert pairs(outcome.candidate_rows) == pairs(outcome.production_rows)
    for metrics in (outcome.production, outcome.persistence):
        assert metrics.forecasts == outcome.candidate.forecasts
        assert metrics.sessions == outcome.candidate.sessions
        assert metrics.base_rate_up == outcome.candidate.base_rate_up


def test_both_models_and_persistence_have_the_same_pairs() -> None:
    outcome = challenge(CANDIDATE, PRODUCTION, sample_bars(), HELD_OUT)
    assert_same_pairs(outcome)
    assert outcome.candidate.forecasts == 5 * len(HELD_OUT)
    assert outcome.candidate != outcome.production
    assert outcome.persistence.mase == 1.0
    assert np.isnan(outcome.persistence.coverage)


def test_scores_are_those_of_the_serving_path() -> None:
    outcome = challenge(CANDIDATE, PRODUCTION, sample_bars(), HELD_OUT)
    served = score_due(CANDIDATE.forecast(sample_bars(), HELD_OUT), sample_bars())
    assert same_frame(outcome.candidate_rows, served)
    assert outcome.candidate == summarise(served)


def test_a_model_that_meets_itself_is_equal() -> None:
    outcome = challenge(CANDIDATE, CANDIDATE, sample_bars(), HELD_OUT)
    assert outcome.candidate == outcome.production


def test_without_production_there_is_nothing_to_compare() -> None:
    outcome = challenge(CANDIDATE, None, sample_bars(), HELD_OUT)
    assert outcome.production is None
    assert outcome.production_rows is None
    assert outcome.persistence.forecasts == outcome.candidate.forecasts


def test_a_ticker_that_one_model_does_not_know_counts_for_neither() -> None:
    narrow = without_ticker("FB")
    for one, other in ((narrow, PRODUCTION), (CANDIDATE, narrow)):
        outcome = challenge(one, other, sample_bars(), HELD_OUT)
        assert_same_pairs(outcome)
        assert outcome.candidate.forecasts == 4 * len(HELD_OUT)
        assert "FB" not in set(outcome.candidate_rows["ticker"])


def test_a_session_whose_outcome_is_not_stored_counts_for_neither() -> None:
    bars = sample_bars()
    known = bars[bars["session"] <= pd.Timestamp(HELD_OUT[-1])].reset_index(drop=True)
    outcome = challenge(CANDIDATE, PRODUCTION, known, HELD_OUT)
    assert_same_pairs(outcome)
    assert outcome.candidate.sessions == len(HELD_OUT) - 1


def test_bars_after_the_last_outcome_change_no_score() -> None:
    bars = sample_bars()
    outcome_day = calendar.next_session(HELD_OUT[-1])
    known = bars[bars["session"] <= pd.Timestamp(outcome_day)].reset_index(drop=True)
    before = challenge(CANDIDATE, PRODUCTION, known, HELD_OUT)
    after = challenge(CANDIDATE, PRODUCTION, bars, HELD_OUT)
    assert same_frame(before.candidate_rows, after.candidate_rows)
    assert (before.candidate, before.production) == (after.candidate, after.production)


def test_models_of_different_tickers_have_nothing_to_compare() -> None:
    bars = sample_bars()
    alone = [
        bundle(bars=bars[bars["ticker"] == ticker].reset_index(drop=True))
        for ticker in ("IBM", "MSFT")
    ]
    outcome = challenge(*alone, bars, HELD_OUT)
    assert outcome.production is None
    assert outcome.candidate.forecasts == len(HELD_OUT)


def test_a_model_under_the_old_name_meets_one_under_the_new_name_on_all_tickers() -> None:
    rename = Rename(old="FB", new="META", first_session=date(2012, 11, 15))
    bars = sample_bars()
    bars = tidy(bars.assign(ticker=bars["ticker"].replace({"FB": "META"})))
    production = Bundle(PRODUCTION.recipe.renamed([rename]), PRODUCTION.network)
    candidate = bundle(bars=bars, as_of=date(2012, 12, 31))
    outcome = challenge(candidate, production, bars, HELD_OUT)
    assert_same_pairs(outcome)
    assert outcome.candidate.forecasts == 5 * len(HELD_OUT)
    assert "META" in set(outcome.candidate_rows["ticker"])
