"""Promotion: who wins, and what the reason tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.config import Promotion
from stock_assets.errors import StockAssetsError
from stock_assets.evaluation.comparison import decide_promotion
from stock_assets.evaluation.metrics import Metrics

NAN = float("nan")
PERSISTENCE = Metrics(
    forecasts=315,
    sessions=63,
    mae=2.0,
    rmse=3.0,
    mape=0.011,
    mase=1.0,
    direction_accuracy=NAN,
    base_rate_up=0.52,
    ic=NAN,
    coverage=NAN,
)
BY_MASE = Promotion(metric="mase", minimum_improvement=0.0)
scores = st.floats(0.01, 10)


def scored(mase: float) -> Metrics:
    return replace(PERSISTENCE, mase=mase)


def test_the_first_model_is_promoted_and_says_so() -> None:
    decision = decide_promotion(scored(0.98), None, PERSISTENCE, BY_MASE)
    assert decision.promote
    assert decision.reason == (
        "Promoted: the candidate's MASE is 0.98 on 315 forecasts of 63 sessions, "
        "and there is no production model yet for these tickers and sessions; "
        "it is better than persistence (1)"
    )


def test_a_better_candidate_is_promoted() -> None:
    decision = decide_promotion(scored(0.98), scored(0.99), PERSISTENCE, BY_MASE)
    assert decision.promote
    assert "lower than production's 0.99" in decision.reason


@pytest.mark.parametrize("mase", [0.99, 1.2])
def test_an_equal_or_worse_candidate_is_not_promoted(mase: float) -> None:
    decision = decide_promotion(scored(mase), scored(0.99), PERSISTENCE, BY_MASE)
    assert not decision.promote
    assert decision.reason.startswith("Not promoted")
    assert "not lower than production's 0.99" in decision.reason


def test_an_improvement_smaller_than_asked_for_is_not_enough() -> None:
    two_percent = Promotion(metric="mase", minimum_improvement=0.02)
    decision = decide_promotion(scored(0.99), scored(1.0), PERSISTENCE, two_percent)
    assert not decision.promote
    assert "lower than production's 1 by less than 2.00%" in decision.reason
    assert decide_promotion(scored(0.98), scored(1.0), PERSISTENCE, two_percent).promote


def test_an_undefined_production_score_never_locks_out() -> None:
    decision = decide_promotion(scored(5.0), scored(NAN), PERSISTENCE, BY_MASE)
    assert decision.promote
    assert "production's is undefined" in decision.reason


@pytest.mark.parametrize("production", [None, scored(NAN), scored(1.0)])
def test_an_undefined_candidate_never_wins(production: Metrics | None) -> None:
    decision = decide_promotion(scored(NAN), production, PERSISTENCE, BY_MASE)
    assert not decision.promote
    assert "undefined" in decision.reason


@pytest.mark.parametrize("mase", [1.0, 1.3])
def test_the_reason_says_when_no_change_does_as_well(mase: float) -> None:
    decision = decide_promotion(scored(mase), scored(2.0), PERSISTENCE, BY_MASE)
    assert decision.promote
    assert "no better than persistence (1)" in decision.reason


def test_the_metric_asked_for_decides() -> None:
    candidate = replace(scored(2.0), mape=0.010)
    by_mape = Promotion(metric="mape", minimum_improvement=0.0)
    assert decide_promotion(candidate, scored(1.0), PERSISTENCE, by_mape).promote
    assert not decide_promotion(candidate, scored(1.0), PERSISTENCE, BY_MASE).promote


@pytest.mark.parametrize("difference", [{"forecasts": 314}, {"sessions": 62}])
def test_scores_on_other_forecasts_are_an_error(difference: dict[str, int]) -> None:
    other = replace(PERSISTENCE, **difference)
    with pytest.raises(StockAssetsError, match=r"same forecasts.*production"):
        decide_promotion(PERSISTENCE, other, PERSISTENCE, BY_MASE)
    with pytest.raises(StockAssetsError, match="persistence"):
        decide_promotion(PERSISTENCE, None, other, BY_MASE)


@given(scores, scores, st.floats(0, 0.5))
def test_two_models_never_both_beat_each_other(first: float, second: float, least: float) -> None:
    promotion = Promotion(metric="mase", minimum_improvement=least)
    forth = decide_promotion(scored(first), scored(second), PERSISTENCE, promotion)
    back = decide_promotion(scored(second), scored(first), PERSISTENCE, promotion)
    assert not (forth.promote and back.promote)


@given(scores, scores, scores, st.floats(0, 0.5))
def test_a_still_better_candidate_wins_too(
    first: float, second: float, held: float, least: float
) -> None:
    promotion = Promotion(metric="mase", minimum_improvement=least)
    better, worse = sorted([first, second])
    if decide_promotion(scored(worse), scored(held), PERSISTENCE, promotion).promote:
        assert decide_promotion(scored(better), scored(held), PERSISTENCE, promotion).promote
