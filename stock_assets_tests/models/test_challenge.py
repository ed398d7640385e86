"""The challenge: everyone is scored on the same pairs, through the path that serves."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from stock_assets.config import Rename
from stock_assets.evaluation.metrics import KEY, summarise
from stock_assets.evaluation.scoring import score_due
from stock_assets.evaluation.significance import diebold_mariano, loss_difference
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.models.baselines import reversal, session_returns
from stock_assets.models.bundle import Bundle
from stock_assets.models.challenge import Challenge, challenge
from stock_assets_tests.models.bundles import FIRST, LAST, bundle, same_frame, sample_bars

HELD_OUT = calendar.sessions(date(2012, 11, 1), date(2012, 12, 31))
LONGEST = 3
CANDIDATE, PRODUCTION = bundle(), bundle(seed=2)
SHARED = ("forecasts", "sessions")


def meet(
    candidate: Bundle, production: Bundle | None, bars: pd.DataFrame | None = None
) -> Challenge:
    """A challenge with one baseline."""
    known = sample_bars() if bars is None else bars
    baselines = {"reversal": reversal(session_returns(known, FIRST, LAST), LONGEST)}
    return challenge(candidate, production, known, HELD_OUT, baselines)


def pairs(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(rows[[*KEY]].itertuples(index=False, name=None))


def without_ticker(ticker: str) -> Bundle:
    """A model that was never trained on a ticker."""
    bars = sample_bars()
    return bundle(bars=bars[bars["ticker"] != ticker].reset_index(drop=True), seed=3)


def assert_same_pairs(outcome: Challenge) -> None:
    assert list(outcome.rows) == ["candidate", "production", "persistence", "reversal"]
    assert list(outcome.scores) == list(outcome.rows)
    candidate = outcome.rows["candidate"]
    for name, rows in outcome.rows.items():
        assert pairs(rows) == pairs(candidate)
        assert rows["actual"].equals(candidate["actual"])
        own = outcome.scores[name].metrics
        for figure in SHARED:
            assert getattr(own, figure) == getattr(outcome.scores["candidate"].metrics, figure)


def assert_the_rest_is_beside_persistence(outcome: Challenge, candidate: Bundle) -> None:
    """What the candidate forecast and production did not is kept apart, and nothing else."""
    served = score_due(candidate.forecast(sample_bars(), HELD_OUT), sample_bars())
    compared = set(pairs(outcome.rows["candidate"]))
    rest = [pair for pair in pairs(served) if pair not in compared]
    assert set(outcome.unmatched) == ({"candidate", "persistence"} if rest else set())
    for rows in outcome.unmatched.values():
        assert pairs(rows) == rest
    if rest:
        idle = outcome.unmatched["persistence"]
        assert idle["predicted"].equals(idle["persistence"])


def test_everyone_has_the_same_pairs() -> None:
    outcome = meet(CANDIDATE, PRODUCTION)
    assert_same_pairs(outcome)
    assert outcome.unmatched == {}
    assert outcome.scores["candidate"].metrics.forecasts == 5 * len(HELD_OUT)
    assert outcome.scores["candidate"] != outcome.scores["production"]
    assert outcome.scores["persistence"].metrics.relative_mae == 1.0
    assert np.isnan(outcome.scores["persistence"].metrics.coverage)
    assert (outcome.first_session, outcome.last_session) == (HELD_OUT[0], HELD_OUT[-1])


def test_scores_are_those_of_the_serving_path() -> None:
    outcome = meet(CANDIDATE, PRODUCTION)
    served = score_due(CANDIDATE.forecast(sample_bars(), HELD_OUT), sample_bars())
    assert same_frame(outcome.rows["candidate"], served)
    assert outcome.scores["candidate"].metrics == summarise(served)


def test_a_baseline_forecasts_from_what_its_as_of_session_knew() -> None:
    rows = meet(CANDIDATE, PRODUCTION).rows
    returns = session_returns(sample_bars(), FIRST, LAST)
    as_of = rows["candidate"]["as_of_session"]
    last = [
        returns.loc[day, ticker]
        for day, ticker in zip(as_of, rows["reversal"]["ticker"], strict=True)
    ]
    expected = rows["persistence"]["predicted"] * np.exp(-np.array(last))
    np.testing.assert_allclose(rows["reversal"]["predicted"], expected)


def test_a_model_that_meets_itself_is_equal_and_the_test_says_so() -> None:
    outcome = meet(CANDIDATE, CANDIDATE)
    assert outcome.scores["candidate"].metrics == outcome.scores["production"].metrics
    test = outcome.scores["candidate"].against["production"]
    assert test.p_value is None
    assert test.reason == "their losses are equal in every session"


def test_models_of_different_horizons_meet_on_those_that_both_have() -> None:
    far = bundle(horizon=LONGEST, seed=4)
    for one, other in ((far, PRODUCTION), (CANDIDATE, far)):
        outcome = meet(one, other)
        assert_same_pairs(outcome)
        assert set(outcome.rows["candidate"]["horizon"]) == {1}
        assert outcome.scores["candidate"].metrics.forecasts == 5 * len(HELD_OUT)
        assert_the_rest_is_beside_persistence(outcome, one)


def test_several_horizons_are_scored_together() -> None:
    outcome = meet(bundle(horizon=LONGEST), bundle(horizon=LONGEST, seed=2))
    assert_same_pairs(outcome)
    rows, metrics = outcome.rows["candidate"], outcome.scores["candidate"].metrics
    assert rows.groupby("horizon").size().tolist() == [5 * len(HELD_OUT)] * LONGEST
    assert metrics.forecasts == LONGEST * 5 * len(HELD_OUT)
    assert metrics.sessions == len(HELD_OUT) + LONGEST - 1
    assert metrics == summarise(rows)
    test = outcome.scores["candidate"].against["persistence"]
    assert test.sessions == metrics.sessions
    losses = loss_difference(rows, outcome.rows["persistence"]).to_numpy()
    assert test == diebold_mariano(losses, LONGEST)


def test_without_production_there_is_nothing_to_compare() -> None:
    outcome = meet(CANDIDATE, None)
    assert list(outcome.rows) == ["candidate", "persistence", "reversal"]
    assert set(outcome.scores["candidate"].against) == {"persistence"}


def test_a_ticker_that_one_model_does_not_know_counts_for_neither() -> None:
    narrow = without_ticker("FB")
    for one, other in ((narrow, PRODUCTION), (CANDIDATE, narrow)):
        outcome = meet(one, other)
        assert_same_pairs(outcome)
        assert outcome.scores["candidate"].metrics.forecasts == 4 * len(HELD_OUT)
        assert "FB" not in set(outcome.rows["candidate"]["ticker"])
        assert_the_rest_is_beside_persistence(outcome, one)


def test_a_session_whose_outcome_is_not_stored_counts_for_neither() -> None:
    bars = sample_bars()
    known = bars[bars["session"] <= pd.Timestamp(HELD_OUT[-1])].reset_index(drop=True)
    outcome = meet(CANDIDATE, PRODUCTION, known)
    assert_same_pairs(outcome)
    assert outcome.scores["candidate"].metrics.sessions == len(HELD_OUT) - 1


def test_bars_after_the_last_outcome_change_no_score() -> None:
    bars = sample_bars()
    outcome_day = calendar.next_session(HELD_OUT[-1])
    known = bars[bars["session"] <= pd.Timestamp(outcome_day)].reset_index(drop=True)
    before, after = meet(CANDIDATE, PRODUCTION, known), meet(CANDIDATE, PRODUCTION, bars)
    for name in before.rows:
        assert same_frame(before.rows[name], after.rows[name])
        assert before.scores[name].to_dict() == after.scores[name].to_dict()


def test_models_of_different_tickers_have_nothing_to_compare() -> None:
    bars = sample_bars()
    alone = [
        bundle(bars=bars[bars["ticker"] == ticker].reset_index(drop=True))
        for ticker in ("IBM", "MSFT")
    ]
    outcome = meet(*alone, bars)
    assert "production" not in outcome.rows
    assert outcome.scores["candidate"].metrics.forecasts == len(HELD_OUT)


def test_a_model_under_the_old_name_meets_one_under_the_new_name_on_all_tickers() -> None:
    rename = Rename(old="FB", new="META", first_session=date(2012, 11, 15))
    bars = sample_bars()
    bars = tidy(bars.assign(ticker=bars["ticker"].replace({"FB": "META"})))
    production = Bundle(PRODUCTION.recipe.renamed([rename]), PRODUCTION.network)
    candidate = bundle(bars=bars, as_of=date(2012, 12, 31))
    outcome = meet(candidate, production, bars)
    assert_same_pairs(outcome)
    assert outcome.scores["candidate"].metrics.forecasts == 5 * len(HELD_OUT)
    assert "META" in set(outcome.rows["candidate"]["ticker"])
