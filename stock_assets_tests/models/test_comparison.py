"""Held-out comparison: all models are scored on the same triples, with the serving code."""

from __future__ import annotations

from dataclasses import replace
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
from stock_assets.models.comparison import HeldOutComparison, compare_on_held_out
from stock_assets_tests.models.bundles import FIRST, LAST, bundle, same_frame, sample_bars

HELD_OUT = calendar.sessions(date(2012, 11, 1), date(2012, 12, 31))
LONGEST = 3
CANDIDATE, PRODUCTION = bundle(), bundle(seed=2)
SHARED = ("forecasts", "sessions")


def compare(
    candidate: Bundle, production: Bundle | None, bars: pd.DataFrame | None = None
) -> HeldOutComparison:
    """Compare with one baseline."""
    known = sample_bars() if bars is None else bars
    baselines = {"reversal": reversal(session_returns(known, FIRST, LAST), LONGEST)}
    return compare_on_held_out(candidate, production, known, HELD_OUT, baselines)


def triples(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(rows[[*KEY]].itertuples(index=False, name=None))


def without_ticker(ticker: str) -> Bundle:
    """Return a model that was not trained on a ticker."""
    bars = sample_bars()
    return bundle(bars=bars[bars["ticker"] != ticker].reset_index(drop=True), seed=3)


def assert_same_triples(outcome: HeldOutComparison) -> None:
    assert list(outcome.rows) == ["candidate", "production", "persistence", "reversal"]
    assert list(outcome.scores) == list(outcome.rows)
    candidate = outcome.rows["candidate"]
    for name, rows in outcome.rows.items():
        assert triples(rows) == triples(candidate)
        assert rows["actual"].equals(candidate["actual"])
        own = outcome.scores[name].metrics
        for figure in SHARED:
            assert getattr(own, figure) == getattr(outcome.scores["candidate"].metrics, figure)


def test_a_shrunk_candidate_is_scored_without_shrinkage_too() -> None:
    shrunk = Bundle(replace(CANDIDATE.recipe, shrinkage=(0.25,)), CANDIDATE.network)
    outcome = compare(shrunk, without_ticker("IBM"))
    assert list(outcome.rows) == [
        "candidate",
        "production",
        "persistence",
        "candidate_raw",
        "reversal",
    ]
    plain, raw = compare(CANDIDATE, without_ticker("IBM")), outcome.rows["candidate_raw"]
    assert same_frame(raw, plain.rows["candidate"])
    move, whole = (
        np.log(rows["predicted"] / rows["persistence"]) for rows in (outcome.rows["candidate"], raw)
    )
    np.testing.assert_allclose(move, 0.25 * whole, atol=1e-12)


def assert_unmatched_are_the_rest(outcome: HeldOutComparison, candidate: Bundle) -> None:
    """Check that `unmatched` has exactly the forecasts that production does not have."""
    served = score_due(candidate.forecast(sample_bars(), HELD_OUT), sample_bars())
    compared = set(triples(outcome.rows["candidate"]))
    rest = [pair for pair in triples(served) if pair not in compared]
    assert set(outcome.unmatched) == ({"candidate", "persistence"} if rest else set())
    for rows in outcome.unmatched.values():
        assert triples(rows) == rest
    if rest:
        idle = outcome.unmatched["persistence"]
        assert idle["predicted"].equals(idle["persistence"])


def test_all_models_have_the_same_triples() -> None:
    outcome = compare(CANDIDATE, PRODUCTION)
    assert_same_triples(outcome)
    assert outcome.unmatched == {}
    assert outcome.scores["candidate"].metrics.forecasts == 5 * len(HELD_OUT)
    assert outcome.scores["candidate"] != outcome.scores["production"]
    assert outcome.scores["persistence"].metrics.relative_mae == 1.0
    assert np.isnan(outcome.scores["persistence"].metrics.coverage)
    assert (outcome.first_session, outcome.last_session) == (HELD_OUT[0], HELD_OUT[-1])


def test_scores_agree_with_served_forecasts() -> None:
    outcome = compare(CANDIDATE, PRODUCTION)
    served = score_due(CANDIDATE.forecast(sample_bars(), HELD_OUT), sample_bars())
    assert same_frame(outcome.rows["candidate"], served)
    assert outcome.scores["candidate"].metrics == summarise(served)


def test_baseline_uses_returns_up_to_its_as_of_session() -> None:
    rows = compare(CANDIDATE, PRODUCTION).rows
    returns = session_returns(sample_bars(), FIRST, LAST)
    as_of = rows["candidate"]["as_of_session"]
    last = [
        returns.loc[day, ticker]
        for day, ticker in zip(as_of, rows["reversal"]["ticker"], strict=True)
    ]
    expected = rows["persistence"]["predicted"] * np.exp(-np.array(last))
    np.testing.assert_allclose(rows["reversal"]["predicted"], expected)


def test_model_compared_with_itself_has_no_test_result() -> None:
    outcome = compare(CANDIDATE, CANDIDATE)
    assert outcome.scores["candidate"].metrics == outcome.scores["production"].metrics
    test = outcome.scores["candidate"].against["production"]
    assert test.p_value is None


def test_different_horizons_are_compared_on_the_shared_ones() -> None:
    far = bundle(horizon=LONGEST, seed=4)
    for one, other in ((far, PRODUCTION), (CANDIDATE, far)):
        outcome = compare(one, other)
        assert_same_triples(outcome)
        assert set(outcome.rows["candidate"]["horizon"]) == {1}
        assert outcome.scores["candidate"].metrics.forecasts == 5 * len(HELD_OUT)
        assert_unmatched_are_the_rest(outcome, one)


def test_several_horizons_are_scored_together() -> None:
    outcome = compare(bundle(horizon=LONGEST), bundle(horizon=LONGEST, seed=2))
    assert_same_triples(outcome)
    rows, metrics = outcome.rows["candidate"], outcome.scores["candidate"].metrics
    assert rows.groupby("horizon").size().tolist() == [5 * len(HELD_OUT)] * LONGEST
    assert metrics.forecasts == LONGEST * 5 * len(HELD_OUT)
    assert metrics.sessions == len(HELD_OUT) + LONGEST - 1
    assert metrics == summarise(rows)
    test = outcome.scores["candidate"].against["persistence"]
    assert test.sessions == metrics.sessions
    losses = loss_difference(rows, outcome.rows["persistence"]).to_numpy()
    assert test == diebold_mariano(losses, LONGEST)


def test_without_production_only_baselines_are_compared() -> None:
    outcome = compare(CANDIDATE, None)
    assert list(outcome.rows) == ["candidate", "persistence", "reversal"]
    assert set(outcome.scores["candidate"].against) == {"persistence"}


def test_ticker_of_one_model_is_left_out() -> None:
    narrow = without_ticker("FB")
    for one, other in ((narrow, PRODUCTION), (CANDIDATE, narrow)):
        outcome = compare(one, other)
        assert_same_triples(outcome)
        assert outcome.scores["candidate"].metrics.forecasts == 4 * len(HELD_OUT)
        assert "FB" not in set(outcome.rows["candidate"]["ticker"])
        assert_unmatched_are_the_rest(outcome, one)


def test_session_without_outcome_is_left_out() -> None:
    bars = sample_bars()
    known = bars[bars["session"] <= pd.Timestamp(HELD_OUT[-1])].reset_index(drop=True)
    outcome = compare(CANDIDATE, PRODUCTION, known)
    assert_same_triples(outcome)
    assert outcome.scores["candidate"].metrics.sessions == len(HELD_OUT) - 1


def test_scores_do_not_depend_on_bars_after_the_last_outcome() -> None:
    bars = sample_bars()
    outcome_day = calendar.next_session(HELD_OUT[-1])
    known = bars[bars["session"] <= pd.Timestamp(outcome_day)].reset_index(drop=True)
    before, after = compare(CANDIDATE, PRODUCTION, known), compare(CANDIDATE, PRODUCTION, bars)
    for name in before.rows:
        assert same_frame(before.rows[name], after.rows[name])
        assert before.scores[name].to_dict() == after.scores[name].to_dict()


def test_models_without_common_tickers_are_not_compared() -> None:
    bars = sample_bars()
    alone = [
        bundle(bars=bars[bars["ticker"] == ticker].reset_index(drop=True))
        for ticker in ("IBM", "MSFT")
    ]
    outcome = compare(*alone, bars)
    assert "production" not in outcome.rows
    assert outcome.scores["candidate"].metrics.forecasts == len(HELD_OUT)


def test_renamed_ticker_is_compared_under_its_new_symbol() -> None:
    rename = Rename(old="FB", new="META", first_session=date(2012, 11, 15))
    bars = sample_bars()
    bars = tidy(bars.assign(ticker=bars["ticker"].replace({"FB": "META"})))
    production = Bundle(PRODUCTION.recipe.rename_tickers([rename]), PRODUCTION.network)
    candidate = bundle(bars=bars, as_of=date(2012, 12, 31))
    outcome = compare(candidate, production, bars)
    assert_same_triples(outcome)
    assert outcome.scores["candidate"].metrics.forecasts == 5 * len(HELD_OUT)
    assert "META" in set(outcome.rows["candidate"]["ticker"])
