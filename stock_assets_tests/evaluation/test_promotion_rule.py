"""Promotion: which candidate wins, and the facts of the decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.config import Promotion
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.metrics import Metrics
from stock_assets.evaluation.promotion_rule import (
    BeforeAlarm,
    PromotionDecision,
    PromotionOutcome,
    decide_after_shadow,
    decide_promotion,
)
from stock_assets.evaluation.scorecard import Scorecard
from stock_assets.evaluation.shadow_rule import ShadowEvidence, ShadowOutcome
from stock_assets.evaluation.significance import DieboldMariano, Edge
from stock_assets.evaluation.skill import measure_skill
from stock_assets.market import calendar
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
PLAIN = Promotion(metric="relative_mae", minimum_improvement=0.0)
STRICT = Promotion(metric="relative_mae", significance=0.05)
scores = st.floats(0.01, 10)


def scored(relative_mae: float) -> Metrics:
    return replace(PERSISTENCE, relative_mae=relative_mae)


def decide(
    candidate: Metrics,
    production: Metrics | None,
    promotion: Promotion = PLAIN,
    against_persistence: DieboldMariano = EQUAL,
    against_production: DieboldMariano = EQUAL,
    before_alarm: BeforeAlarm | None = None,
) -> PromotionDecision:
    tests = {"persistence": against_persistence}
    cards = {"candidate": Scorecard(candidate, SKILL, tests)}
    if production is not None:
        tests["production"] = against_production
        cards["production"] = Scorecard(production, SKILL, {"persistence": EQUAL})
    cards["persistence"] = Scorecard(PERSISTENCE, SKILL, {})
    return decide_promotion(cards, promotion, 7, 2, before_alarm=before_alarm)


def shadow_evidence(sessions: int) -> ShadowEvidence:
    return ShadowEvidence(
        version=3,
        sessions=tuple(calendar.sessions(date(2013, 1, 2), date(2013, 12, 31))[:sessions]),
        differences=(-0.01,) * sessions,
        evidence=(1.5,) * sessions,
        loss_difference=-0.0001,
        forecasts=5 * sessions,
        backfilled=0,
        period=60,
    )


def after_shadow(
    outcome: ShadowOutcome, sessions: int, against_persistence: DieboldMariano
) -> PromotionDecision:
    tests = {"persistence": against_persistence, "production": EQUAL}
    cards = {
        "candidate": Scorecard(scored(0.98), SKILL, tests),
        "production": Scorecard(scored(0.99), SKILL, {"persistence": EQUAL}),
        "persistence": Scorecard(PERSISTENCE, SKILL, {}),
    }
    return decide_after_shadow(cards, outcome, shadow_evidence(sessions), Promotion())


@pytest.mark.parametrize(
    ("candidate", "production", "promotion", "outcome"),
    [
        (0.98, None, PLAIN, PromotionOutcome.FIRST_MODEL),
        (0.98, None, STRICT, PromotionOutcome.FIRST_MODEL),
        (1.3, None, PLAIN, PromotionOutcome.FIRST_MODEL),
        (0.98, 0.99, PLAIN, PromotionOutcome.BETTER),
        (0.99, 0.99, PLAIN, PromotionOutcome.NOT_BETTER),
        (1.2, 0.99, PLAIN, PromotionOutcome.NOT_BETTER),
        (5.0, NAN, PLAIN, PromotionOutcome.PRODUCTION_UNDEFINED),
        (NAN, None, PLAIN, PromotionOutcome.CANDIDATE_UNDEFINED),
        (NAN, NAN, PLAIN, PromotionOutcome.CANDIDATE_UNDEFINED),
        (NAN, 1.0, PLAIN, PromotionOutcome.CANDIDATE_UNDEFINED),
    ],
)
def test_outcome_follows_the_scores(
    candidate: float, production: float | None, promotion: Promotion, outcome: PromotionOutcome
) -> None:
    held = None if production is None else scored(production)
    assert decide(scored(candidate), held, promotion).outcome is outcome


def test_promoting_outcomes_are_five() -> None:
    decision = decide(scored(0.98), None)
    promoting = {one for one in PromotionOutcome if replace(decision, outcome=one).promote}
    assert promoting == {
        PromotionOutcome.FIRST_MODEL,
        PromotionOutcome.BETTER,
        PromotionOutcome.PRODUCTION_UNDEFINED,
        PromotionOutcome.SHADOW_BETTER,
        PromotionOutcome.SHADOW_LOWER_LOSS,
    }


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        (BETTER, PromotionOutcome.BETTER),
        (EQUAL, PromotionOutcome.SHADOW),
        (WORSE, PromotionOutcome.SHADOW),
        (UNDEFINED, PromotionOutcome.SHADOW),
    ],
)
@pytest.mark.parametrize("candidate", [0.8, 1.1])
def test_the_sessions_before_an_alarm_decide_or_later_ones_do(
    test: DieboldMariano, outcome: PromotionOutcome, candidate: float
) -> None:
    """The score on all sessions, those of the alarm included, decides nothing."""
    before = BeforeAlarm(date(2013, 1, 2), test)
    decision = decide(scored(candidate), scored(0.99), before_alarm=before)
    assert decision.outcome is outcome
    assert decision.in_shadow == (outcome is PromotionOutcome.SHADOW)
    assert decision.before_alarm == before


@pytest.mark.parametrize(
    ("candidate", "production", "against_persistence", "outcome"),
    [
        (0.9, 1.0, WORSE, PromotionOutcome.BELOW_FLOOR),
        (NAN, 1.0, EQUAL, PromotionOutcome.CANDIDATE_UNDEFINED),
        (1.3, None, EQUAL, PromotionOutcome.FIRST_MODEL),
    ],
)
def test_an_alarm_changes_nothing_without_two_models_to_compare(
    candidate: float,
    production: float | None,
    against_persistence: DieboldMariano,
    outcome: PromotionOutcome,
) -> None:
    before = BeforeAlarm(date(2013, 1, 2), EQUAL)
    held = None if production is None else scored(production)
    decision = decide(
        scored(candidate), held, Promotion(), against_persistence, before_alarm=before
    )
    assert decision.outcome is outcome
    assert not decision.in_shadow


@pytest.mark.parametrize(
    ("shadow", "outcome", "sessions", "goes_on"),
    [
        (ShadowOutcome.BETTER, PromotionOutcome.SHADOW_BETTER, 7, False),
        (ShadowOutcome.LOWER_LOSS, PromotionOutcome.SHADOW_LOWER_LOSS, 60, False),
        (ShadowOutcome.LOST, PromotionOutcome.SHADOW_LOST, 60, True),
        (ShadowOutcome.LOST, PromotionOutcome.SHADOW_LOST, 120, False),
    ],
)
def test_a_shadow_decides(
    shadow: ShadowOutcome, outcome: PromotionOutcome, sessions: int, goes_on: bool
) -> None:
    decision = after_shadow(shadow, sessions, EQUAL)
    assert decision.outcome is outcome
    assert decision.in_shadow is goes_on
    assert decision.shadow == shadow_evidence(sessions)


def test_the_floor_holds_after_a_shadow() -> None:
    decision = after_shadow(ShadowOutcome.BETTER, 7, WORSE)
    assert decision.outcome is PromotionOutcome.BELOW_FLOOR
    assert not decision.promote
    assert not decision.in_shadow
    lost = after_shadow(ShadowOutcome.LOST, 60, WORSE)
    assert lost.outcome is PromotionOutcome.SHADOW_LOST


@pytest.mark.parametrize("production", [None, 1.2, NAN], ids=["first", "later", "undefined"])
@pytest.mark.parametrize(
    ("floor", "refused"),
    [
        ("not_worse", {"worse"}),
        ("better", {"worse", "equal", "undefined"}),
        ("none", set()),
    ],
)
def test_a_candidate_below_the_floor_is_never_promoted(
    production: float | None, floor: str, refused: set[str]
) -> None:
    """By the test against persistence: neither the first one nor one that beats production."""
    tests = {"better": BETTER, "equal": EQUAL, "undefined": UNDEFINED, "worse": WORSE}
    rule = Promotion.model_validate({"floor": floor})
    held = None if production is None else scored(production)
    decisions = {name: decide(scored(0.9), held, rule, test) for name, test in tests.items()}
    assert {name for name, made in decisions.items() if not made.promote} == refused
    for name in refused:
        assert decisions[name].outcome is PromotionOutcome.BELOW_FLOOR
        assert decisions[name].floor == floor


def test_the_floor_is_not_to_be_worse_by_default() -> None:
    assert Promotion().floor == "not_worse"
    assert not decide(scored(0.9), None, Promotion(), WORSE).promote


def test_an_improvement_below_the_minimum_is_not_enough() -> None:
    two_percent = Promotion(metric="relative_mae", minimum_improvement=0.02)
    decision = decide(scored(0.99), scored(1.0), two_percent)
    assert decision.outcome is PromotionOutcome.MARGIN_NOT_REACHED
    assert decision.minimum_improvement == 0.02
    assert decide(scored(0.98), scored(1.0), two_percent).promote


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        (BETTER, PromotionOutcome.BETTER),
        (EQUAL, PromotionOutcome.NOT_SIGNIFICANT),
        (UNDEFINED, PromotionOutcome.NOT_SIGNIFICANT),
        (WORSE, PromotionOutcome.SIGNIFICANTLY_WORSE),
    ],
)
def test_required_significance_is_that_against_production(
    test: DieboldMariano, outcome: PromotionOutcome
) -> None:
    decision = decide(scored(0.9), scored(0.95), STRICT, against_production=test)
    assert (decision.outcome, decision.against_production) == (outcome, test)
    assert decide(scored(0.9), scored(0.95), PLAIN, against_production=test).promote


def test_significance_alone_does_not_promote() -> None:
    decision = decide(scored(0.99), scored(0.95), STRICT, against_production=BETTER)
    assert decision.outcome is PromotionOutcome.NOT_BETTER


def test_the_configured_metric_decides() -> None:
    candidate = replace(scored(2.0), mape=0.010)
    decision = decide(candidate, scored(1.0), Promotion(metric="mape", minimum_improvement=0.0))
    assert decision.promote
    assert (decision.candidate, decision.production, decision.persistence) == (0.010, 0.011, 0.011)
    assert not decide(candidate, scored(1.0)).promote


def test_the_decision_holds_its_evidence() -> None:
    decision = decide(scored(NAN), scored(0.99))
    assert (decision.candidate, decision.production, decision.persistence) == (None, 0.99, 1.0)
    assert (decision.forecasts, decision.sessions) == (315, 63)
    assert (decision.unmatched_forecasts, decision.evaluated_version) == (7, 2)
    assert decision.against_persistence == EQUAL
    first = decide(scored(0.98), None)
    assert (first.production, first.against_production, first.evaluated_version) == (None,) * 3


@pytest.mark.parametrize("difference", [{"forecasts": 314}, {"sessions": 62}])
def test_scores_on_other_forecasts_are_an_error(difference: dict[str, int]) -> None:
    with pytest.raises(StockAssetsError, match=r"same forecasts.*production"):
        decide(PERSISTENCE, replace(PERSISTENCE, **difference))


@pytest.mark.parametrize(
    ("test", "relative_mae", "level", "edge"),
    [
        (BETTER, 0.9, None, Edge.BETTER),
        (WORSE, 1.1, None, Edge.WORSE),
        (EQUAL, 0.9, None, Edge.NONE),
        (UNDEFINED, 0.9, None, Edge.UNDEFINED),
        (UNDEFINED, NAN, None, Edge.UNDEFINED),
        (BETTER, 0.9, 0.01, Edge.NONE),  # its 0.015 is not below the level
        # Sessions count once for the test, forecasts for the score: they may disagree.
        (BETTER, 1.01, None, Edge.NONE),
        (BETTER, 1.0, None, Edge.NONE),
        (WORSE, 0.99, None, Edge.NONE),
    ],
)
def test_an_edge_needs_the_test_and_the_score(
    test: DieboldMariano, relative_mae: float, level: float | None, edge: Edge
) -> None:
    promotion = Promotion(metric="relative_mae", significance=level)
    assert decide(scored(relative_mae), None, promotion, test).edge is edge


@settings(max_examples=50)
@given(scores, scores, st.floats(0, 0.5))
def test_two_models_never_both_beat_each_other(first: float, second: float, least: float) -> None:
    promotion = Promotion(metric="relative_mae", minimum_improvement=least)
    forth = decide(scored(first), scored(second), promotion)
    back = decide(scored(second), scored(first), promotion)
    assert not (forth.promote and back.promote)


@settings(max_examples=50)
@given(scores, scores, scores, st.floats(0, 0.5))
def test_a_still_better_candidate_wins_too(
    first: float, second: float, held: float, least: float
) -> None:
    promotion = Promotion(metric="relative_mae", minimum_improvement=least)
    better, worse = sorted([first, second])
    if decide(scored(worse), scored(held), promotion).promote:
        assert decide(scored(better), scored(held), promotion).promote
