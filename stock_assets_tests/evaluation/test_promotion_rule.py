"""Promotion: who wins, and what the reason tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.config import Promotion
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.metrics import Metrics
from stock_assets.evaluation.promotion_rule import PromotionDecision, decide_promotion
from stock_assets.evaluation.scorecard import Scorecard
from stock_assets.evaluation.significance import DieboldMariano
from stock_assets.evaluation.skill import measure_skill
from stock_assets_tests.evaluation.examples import scored_forecasts

NAN = float("nan")
SKILL = measure_skill(scored_forecasts())
PERSISTENCE = Metrics(
    forecasts=315,
    sessions=63,
    mae=2.0,
    rmse=3.0,
    mape=0.011,
    relative_mae=1.0,
    direction_accuracy=NAN,
    base_rate_up=0.52,
    ic=NAN,
    rank_ic=NAN,
    coverage=NAN,
)
BETTER = DieboldMariano(-0.0002, 63, -2.5, 0.015)
WORSE = DieboldMariano(0.0002, 63, 2.5, 0.015)
EQUAL = DieboldMariano(-0.00001, 63, -0.8, 0.43)
UNDEFINED = DieboldMariano(0.0, 63, None, None, "their losses are equal in every session")
NO_EDGE = "No significant edge over persistence"
BY_MASE = Promotion(metric="relative_mae", minimum_improvement=0.0)
scores = st.floats(0.01, 10)


def scored(relative_mae: float) -> Metrics:
    return replace(PERSISTENCE, relative_mae=relative_mae)


def decide(
    candidate: Metrics,
    production: Metrics | None,
    persistence: Metrics,
    promotion: Promotion,
    against_persistence: DieboldMariano = EQUAL,
    against_production: DieboldMariano = EQUAL,
) -> PromotionDecision:
    tests = {"persistence": against_persistence, "production": against_production}
    cards = {"candidate": Scorecard(candidate, SKILL, tests)}
    if production is not None:
        cards["production"] = Scorecard(production, SKILL, {"persistence": EQUAL})
    cards["persistence"] = Scorecard(persistence, SKILL, {"production": EQUAL})
    return decide_promotion(cards, promotion)


def test_the_first_model_is_promoted_and_says_so() -> None:
    decision = decide(scored(0.98), None, PERSISTENCE, BY_MASE)
    assert decision.promote
    assert decision.reason == (
        "Promoted: the candidate's relative MAE is 0.98 on 315 forecasts of 63 sessions, "
        "and there is no production model yet for these tickers and sessions; "
        "it is better than persistence (1). No significant edge over persistence "
        "(-0.001% of price in mean absolute error, Diebold-Mariano p = 0.43 over 63 sessions)"
    )


def test_a_better_candidate_is_promoted() -> None:
    decision = decide(scored(0.98), scored(0.99), PERSISTENCE, BY_MASE)
    assert decision.promote
    assert "lower than production's 0.99" in decision.reason


@pytest.mark.parametrize("relative_mae", [0.99, 1.2])
def test_an_equal_or_worse_candidate_is_not_promoted(relative_mae: float) -> None:
    decision = decide(scored(relative_mae), scored(0.99), PERSISTENCE, BY_MASE)
    assert not decision.promote
    assert decision.reason.startswith("Not promoted")
    assert "not lower than production's 0.99" in decision.reason


def test_an_improvement_smaller_than_asked_for_is_not_enough() -> None:
    two_percent = Promotion(metric="relative_mae", minimum_improvement=0.02)
    decision = decide(scored(0.99), scored(1.0), PERSISTENCE, two_percent)
    assert not decision.promote
    assert "lower than production's 1 by less than 2.00%" in decision.reason
    assert decide(scored(0.98), scored(1.0), PERSISTENCE, two_percent).promote


def test_an_undefined_production_score_never_locks_out() -> None:
    decision = decide(scored(5.0), scored(NAN), PERSISTENCE, BY_MASE)
    assert decision.promote
    assert "production's is undefined" in decision.reason


@pytest.mark.parametrize("production", [None, scored(NAN), scored(1.0)])
def test_an_undefined_candidate_never_wins(production: Metrics | None) -> None:
    decision = decide(scored(NAN), production, PERSISTENCE, BY_MASE)
    assert not decision.promote
    assert "undefined" in decision.reason


@pytest.mark.parametrize("relative_mae", [1.0, 1.3])
def test_the_reason_says_when_no_change_does_as_well(relative_mae: float) -> None:
    decision = decide(scored(relative_mae), scored(2.0), PERSISTENCE, BY_MASE)
    assert decision.promote
    assert "no better than persistence (1)" in decision.reason


def test_the_metric_asked_for_decides() -> None:
    candidate = replace(scored(2.0), mape=0.010)
    by_mape = Promotion(metric="mape", minimum_improvement=0.0)
    assert decide(candidate, scored(1.0), PERSISTENCE, by_mape).promote
    assert not decide(candidate, scored(1.0), PERSISTENCE, BY_MASE).promote


@pytest.mark.parametrize("difference", [{"forecasts": 314}, {"sessions": 62}])
def test_scores_on_other_forecasts_are_an_error(difference: dict[str, int]) -> None:
    other = replace(PERSISTENCE, **difference)
    with pytest.raises(StockAssetsError, match=r"same forecasts.*production"):
        decide(PERSISTENCE, other, PERSISTENCE, BY_MASE)
    with pytest.raises(StockAssetsError, match="persistence"):
        decide(PERSISTENCE, None, other, BY_MASE)


def test_an_edge_is_claimed_only_where_the_test_finds_one() -> None:
    found = decide(scored(0.9), None, PERSISTENCE, BY_MASE, BETTER)
    assert NO_EDGE not in found.reason
    assert ". Significant edge over persistence (-0.02% of price" in found.reason


@pytest.mark.parametrize(
    ("test", "told"),
    [
        (EQUAL, " (-0.001% of price in mean absolute error, Diebold-Mariano p = 0.43 over 63"),
        (WORSE, ", significantly worse (+0.02% of price in mean absolute error"),
        (UNDEFINED, " (no Diebold-Mariano test: their losses are equal in every session"),
    ],
    ids=["not significant", "significantly worse", "undefined"],
)
def test_without_an_edge_the_reason_says_so_in_these_words(test: DieboldMariano, told: str) -> None:
    relative_mae = 1.1 if test is WORSE else 0.9
    decision = decide(scored(relative_mae), scored(1.2), PERSISTENCE, BY_MASE, test)
    assert decision.promote, "significance is not asked for"
    assert f". {NO_EDGE}{told}" in decision.reason
    assert told in decision.reason


@pytest.mark.parametrize(
    ("test", "promote"), [(BETTER, True), (EQUAL, False), (WORSE, False), (UNDEFINED, False)]
)
def test_where_significance_is_asked_for_the_candidate_must_differ_from_production(
    test: DieboldMariano, promote: bool
) -> None:
    strict = Promotion(metric="relative_mae", significance=0.05)
    decision = decide(scored(0.9), scored(0.95), PERSISTENCE, strict, EQUAL, test)
    assert decision.promote is promote
    told = (
        "but significantly worse session by session ("
        if test is WORSE
        else ("but not significantly at 0.05 (")
    )
    assert (told in decision.reason) is not promote


@pytest.mark.parametrize(("test", "relative_mae"), [(BETTER, 1.01), (BETTER, 1.0), (WORSE, 0.99)])
def test_a_test_that_contradicts_the_score_claims_nothing(
    test: DieboldMariano, relative_mae: float
) -> None:
    """Sessions count once for the test, forecasts for the score: they may disagree."""
    decision = decide(scored(relative_mae), None, PERSISTENCE, BY_MASE, test)
    assert f". {NO_EDGE} (" in decision.reason


def test_an_undefined_score_has_the_words_too() -> None:
    decision = decide(scored(NAN), None, PERSISTENCE, BY_MASE, UNDEFINED)
    assert not decision.promote
    assert f"which is undefined. {NO_EDGE} (no Diebold-Mariano test" in decision.reason


def test_scores_near_one_are_told_apart() -> None:
    near = DieboldMariano(-1.2e-7, 63, -0.1, 0.9)
    decision = decide(scored(0.99998), scored(0.99999), PERSISTENCE, BY_MASE, near)
    assert "relative MAE is 0.99998" in decision.reason
    assert "lower than production's 0.99999" in decision.reason
    assert "(-1.2e-05% of price" in decision.reason


def test_significance_alone_does_not_promote() -> None:
    strict = Promotion(metric="relative_mae", significance=0.05)
    decision = decide(scored(0.99), scored(0.95), PERSISTENCE, strict, EQUAL, BETTER)
    assert not decision.promote
    assert "not lower than production's 0.95" in decision.reason


def test_the_first_model_needs_no_significance() -> None:
    strict = Promotion(metric="relative_mae", significance=0.01)
    decision = decide(scored(0.9), None, PERSISTENCE, strict, BETTER)
    assert decision.promote
    assert NO_EDGE in decision.reason, "its 0.015 is not below the 0.01 asked for"


@given(scores, scores, st.floats(0, 0.5))
def test_two_models_never_both_beat_each_other(first: float, second: float, least: float) -> None:
    promotion = Promotion(metric="relative_mae", minimum_improvement=least)
    forth = decide(scored(first), scored(second), PERSISTENCE, promotion)
    back = decide(scored(second), scored(first), PERSISTENCE, promotion)
    assert not (forth.promote and back.promote)


@given(scores, scores, scores, st.floats(0, 0.5))
def test_a_still_better_candidate_wins_too(
    first: float, second: float, held: float, least: float
) -> None:
    promotion = Promotion(metric="relative_mae", minimum_improvement=least)
    better, worse = sorted([first, second])
    if decide(scored(worse), scored(held), PERSISTENCE, promotion).promote:
        assert decide(scored(better), scored(held), PERSISTENCE, promotion).promote
