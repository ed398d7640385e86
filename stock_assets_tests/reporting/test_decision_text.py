"""Decisions in words: every outcome has a sentence, with rounded numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from stock_assets.evaluation.promotion_rule import PromotionOutcome
from stock_assets.evaluation.retraining_rule import RetrainingOutcome, ThresholdCheck
from stock_assets.evaluation.significance import DieboldMariano, Edge
from stock_assets.reporting.decision_text import (
    breach_text,
    edge_text,
    promotion_text,
    retraining_text,
)
from stock_assets_tests.storage.examples import PROMOTION, RETRAINING

TEST = DieboldMariano(0.0000712, 30, 0.8, 0.4352)
FIRST = replace(PROMOTION.decision, candidate=1.00732, against_persistence=TEST)
SECOND = replace(FIRST, production=1.0121, against_production=replace(TEST, p_value=0.0312))


def test_the_first_model_in_words() -> None:
    assert promotion_text(FIRST) == (
        "Promoted: no production model to beat, relative MAE 1.007 (persistence 1.000; "
        "150 forecasts, 30 sessions). No significant edge over persistence "
        "(error higher by 0.0071% of price, Diebold-Mariano p = 0.44, 30 sessions)"
    )


def test_every_promotion_outcome_has_its_own_sentence() -> None:
    decisions = [replace(SECOND, outcome=outcome) for outcome in PromotionOutcome]
    texts = [promotion_text(decision) for decision in decisions]
    assert len(set(texts)) == len(PromotionOutcome)
    for decision, text in zip(decisions, texts, strict=True):
        assert text.startswith("Promoted: " if decision.promote else "Not promoted: ")


def test_forecasts_left_out_of_the_comparison_are_stated() -> None:
    text = promotion_text(replace(SECOND, unmatched_forecasts=310, evaluated_version=3))
    assert "Version 3 was scored in place of its refit" in text
    assert "310 forecasts without a counterpart" in text


def test_scores_that_differ_never_look_equal() -> None:
    near = replace(SECOND, outcome=PromotionOutcome.BETTER, candidate=0.99998, production=0.99999)
    assert "relative MAE 0.99998 beats production's 0.99999" in promotion_text(near)


def test_an_undefined_score_or_test_is_called_so() -> None:
    undefined = DieboldMariano(0.0, 30, None, None, "their losses are equal in every session")
    text = promotion_text(
        replace(FIRST, outcome=PromotionOutcome.CANDIDATE_UNDEFINED, candidate=None)
    )
    assert "relative MAE undefined" in text
    assert "equal in every session" in edge_text(Edge.UNDEFINED, undefined)


def test_only_a_better_model_has_an_edge() -> None:
    texts = {edge: edge_text(edge, TEST) for edge in Edge}
    assert [edge for edge, text in texts.items() if text.startswith("Significant edge")] == [
        Edge.BETTER
    ]
    assert texts[Edge.WORSE].startswith("Significantly worse than persistence")


@pytest.mark.parametrize(
    ("outcome", "begins"),
    [
        (RetrainingOutcome.NO_SCORES, "No decision: no forecast"),
        (RetrainingOutcome.TOO_FEW, "No decision: 100 forecasts of 20 sessions"),
        (RetrainingOutcome.HEALTHY, "Healthy"),
        (RetrainingOutcome.BREACH, "Retrain: relative MAE 1.500 exceeds 1.100 (100 forecasts"),
        (RetrainingOutcome.COOLING_DOWN, "Cooling down, 3 of 20 sessions since"),
    ],
)
def test_every_retraining_outcome_has_its_sentence(outcome: RetrainingOutcome, begins: str) -> None:
    last = date(2013, 2, 1)
    decision = replace(
        RETRAINING.decision, outcome=outcome, last_retraining=last, elapsed_sessions=3
    )
    assert retraining_text(decision).startswith(begins)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (ThresholdCheck("mape", 0.1123, 0.1, "at_most"), "MAPE 11.2% exceeds 10.0%"),
        (
            ThresholdCheck("direction_accuracy", 0.38, 0.4, "at_least"),
            "direction accuracy 38.0% is below 40.0%",
        ),
        (ThresholdCheck("relative_mae", None, 1.1, "at_most"), "relative MAE is undefined"),
    ],
)
def test_a_breach_in_words(check: ThresholdCheck, text: str) -> None:
    assert breach_text(check) == text


@pytest.mark.parametrize(
    ("backfilled", "mark"),
    [
        (None, ""),
        (0, ""),
        (7, ", 7 of them backfilled"),
        (100, ", on backfilled forecasts"),
    ],
)
def test_a_decision_on_backfilled_forecasts_is_marked_once(
    backfilled: int | None, mark: str
) -> None:
    plain = retraining_text(RETRAINING.decision)
    marked = retraining_text(replace(RETRAINING.decision, backfilled=backfilled))
    window = f"up to {RETRAINING.session}"
    assert marked == plain.replace(window, f"{window}{mark}")
