"""Decisions in words: every outcome has a sentence, with rounded numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from stock_assets.evaluation.alarm import DetectorState
from stock_assets.evaluation.hard_limits import ThresholdCheck
from stock_assets.evaluation.promotion_rule import BeforeAlarm, PromotionOutcome
from stock_assets.evaluation.retraining_rule import RetrainingOutcome
from stock_assets.evaluation.shadow_rule import ShadowEvidence
from stock_assets.evaluation.significance import DieboldMariano, Edge
from stock_assets.reporting.decision_text import (
    breach_text,
    edge_text,
    promotion_text,
    retraining_text,
    shadow_text,
)
from stock_assets_tests.storage.examples import ALARM, PROMOTION, RETRAINING

EVIDENCE = ShadowEvidence(
    version=3,
    sessions=(date(2013, 2, 1), date(2013, 2, 4)),
    differences=(-0.1, 0.05),
    evidence=(1.1, 1.31),
    loss_difference=0.0001,
    forecasts=10,
    backfilled=3,
    period=2,
)
TEST = DieboldMariano(0.0000712, 30, 0.8, 0.4352)
BEFORE_ALARM = BeforeAlarm(date(2013, 1, 2), TEST)
FIRST = replace(PROMOTION.decision, candidate=1.00732, against_persistence=TEST)
SECOND = replace(FIRST, production=1.0121, against_production=replace(TEST, p_value=0.0312))


def test_the_first_model_in_words() -> None:
    assert promotion_text(FIRST) == (
        "Promoted: no production model to beat, relative MAE 1.007 (persistence 1.000; "
        "150 forecasts, 30 sessions). No significant edge over persistence "
        "(error higher by 0.0071% of price, Diebold-Mariano p = 0.44, 30 sessions)"
    )


def test_every_promotion_outcome_has_its_own_sentence() -> None:
    decisions = [
        replace(SECOND, outcome=outcome, before_alarm=BEFORE_ALARM, shadow=EVIDENCE)
        for outcome in PromotionOutcome
    ]
    texts = [promotion_text(decision) for decision in decisions]
    assert len(set(texts)) == len(PromotionOutcome)
    for decision, text in zip(decisions, texts, strict=True):
        begins = "Promoted: " if decision.promote else "Not promoted: "
        assert text.startswith("In shadow: " if decision.in_shadow else begins)


def test_a_shadow_in_words() -> None:
    lost = replace(SECOND, outcome=PromotionOutcome.SHADOW_LOST, shadow=EVIDENCE)
    assert (
        "In shadow: no lower loss, relative MAE 1.007 against production's 1.012 in 2 sessions of "
        "shadow, 3 of them backfilled, evidence 1.3 of 20, 2 more sessions decide"
    ) in promotion_text(lost)
    assert shadow_text(EVIDENCE) == (
        "2 sessions scored: no lower loss than production's, evidence 1.3 of 20; until 4 the "
        "evidence alone promotes"
    )
    first = replace(EVIDENCE, sessions=EVIDENCE.sessions[:1], loss_difference=-0.001)
    assert shadow_text(first).endswith("after 2 the loss decides")
    none = replace(EVIDENCE, sessions=(), evidence=())
    assert shadow_text(none) == "No session is scored yet; after 2 the loss decides"


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


RAISED = replace(
    ALARM,
    evidence=260.0,
    detectors=ALARM.detectors | {"loss": DetectorState(770.0, 0.2, 0.015, 0.1)},
)
DECISION = replace(RETRAINING.decision, breaches=(), alarm=ALARM, outcome=RetrainingOutcome.HEALTHY)
PATIENT = {"last_retraining": date(2013, 2, 1), "elapsed_sessions": 3, "cooldown_sessions": 20}


@pytest.mark.parametrize(
    ("outcome", "facts", "begins"),
    [
        ("no_scores", {}, "No decision: no forecast of the version in force is scored yet"),
        ("no_scores", PATIENT, "No decision: .* scored since the retraining as of 2013-02-01$"),
        ("healthy", {}, r"Healthy: evidence 1.2 of 252 \(accuracy 1.5, above intervals 1, below"),
        ("alarm", {"alarm": RAISED}, "Retrain: the alarm is raised, evidence 260 of 252"),
        (
            "hard_limit",
            {"breaches": RETRAINING.decision.breaches},
            r"Retrain: relative MAE 1.600 exceeds 1.500 \(100 forecasts of 20 sessions",
        ),
        ("hard_limit", {"invalid_forecasts": True}, "Retrain: the newest forecasts are invalid"),
        (
            "age",
            {"age_sessions": 252, "due_sessions": 252},
            "Retrain: the maximum age is reached, 252 of 252 sessions",
        ),
        (
            "no_model",
            {"alarm": None, "model_version": 0, "age_sessions": 63, "due_sessions": 63},
            r"Retrain: persistence \(version 0\) is in force, 63 of 63 sessions",
        ),
        (
            "healthy",
            {"alarm": None, "model_version": 0, "age_sessions": 3, "due_sessions": 63},
            r"Healthy: persistence \(version 0\) is in force, 3 of 63 sessions",
        ),
        (
            "cooling_down",
            PATIENT | {"alarm": RAISED},
            "Cooling down, 3 of 20 sessions since the retraining as of 2013-02-01: the alarm",
        ),
    ],
)
def test_every_retraining_outcome_has_its_sentence(
    outcome: str, facts: dict[str, Any], begins: str
) -> None:
    text = retraining_text(replace(DECISION, outcome=RetrainingOutcome(outcome), **facts))
    assert re.match(begins, text), text


@pytest.mark.parametrize(
    ("outcome", "begins"),
    [
        (
            "too_few",
            "No decision: 100 forecasts of 20 sessions up to 2013-01-02, fewer than 50 forecasts",
        ),
        ("healthy", "Healthy: every threshold is met (100 forecasts of 20 sessions"),
        ("breach", "Retrain: relative MAE 1.600 exceeds 1.500 (100 forecasts of 20 sessions"),
        ("cooling_down", "Cooling down, 3 of 20 sessions since the retraining as of 2013-02-01: "),
    ],
)
def test_decisions_of_earlier_versions_keep_their_sentences(outcome: str, begins: str) -> None:
    facts = PATIENT | {"alarm": None, "model_version": None, "minimum_forecasts": 50}
    if outcome != "healthy":
        facts |= {"breaches": RETRAINING.decision.breaches}
    decision = replace(DECISION, outcome=RetrainingOutcome(outcome), **facts)
    assert retraining_text(decision).startswith(begins)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (ThresholdCheck("mape", 0.1123, 0.1, "at_most"), "MAPE 11.2% exceeds 10.0%"),
        (
            ThresholdCheck("direction_accuracy", 0.38, 0.4, "at_least"),
            "direction accuracy 38.0% is below 40.0%",
        ),
        (
            ThresholdCheck("direction_accuracy", 0.38, 0.5, "at_least", 0.1),
            "direction accuracy 38.0% is below 50.0% beyond its confidence interval",
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
