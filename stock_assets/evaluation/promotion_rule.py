"""Whether a candidate model replaces the one in production."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stock_assets.config import Promotion
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.scorecard import Scorecard
from stock_assets.evaluation.significance import DieboldMariano

_LABELS = {"mae": "MAE", "rmse": "RMSE", "mape": "MAPE", "relative_mae": "relative MAE"}

DEFAULT_LEVEL = 0.05
"""Probability below which a difference is called significant, unless parameters say otherwise."""


@dataclass(frozen=True)
class PromotionDecision:
    """The decision, and a sentence that says why."""

    promote: bool
    reason: str


def decide_promotion(scores: Mapping[str, Scorecard], promotion: Promotion) -> PromotionDecision:
    """Decide whether the candidate becomes the production model.

    The candidate wins when there is no production model, when production's metric is undefined, or
    when its own metric is lower by at least the minimum improvement; equal is not lower. One whose
    own metric is undefined never wins. With ``promotion.significance`` set, a candidate that meets
    a production model must also differ from it by the Diebold-Mariano test; an undefined test is no
    difference. Persistence decides nothing: it is what the reason compares with, so that a poor
    winner is seen for what it is.

    Parameters
    ----------
    scores : mapping of str to Scorecard
        Of ``candidate``, ``persistence`` and, where there is one, ``production``, on the same
        (session, ticker, horizon) triples.
    promotion : Promotion
        The metric that decides, lower being better, the improvement asked for, and the probability
        below which a difference is significant.

    Raises
    ------
    StockAssetsError
        The scores are not of equally many forecasts and sessions.
    """
    _require_same_forecasts(scores)
    name = promotion.metric
    candidate, production = scores["candidate"], scores.get("production")
    score = getattr(candidate.metrics, name)
    floor = getattr(scores["persistence"].metrics, name)
    measured = (
        f"the candidate's {_LABELS[name]} is {score:.6g} on {candidate.metrics.forecasts} "
        f"forecasts of {candidate.metrics.sessions} sessions"
    )
    level = promotion.significance or DEFAULT_LEVEL
    edge = edge_over_persistence(
        candidate.against["persistence"], candidate.metrics.relative_mae, level
    )
    if math.isnan(score):
        return PromotionDecision(False, f"Not promoted: {measured}, which is undefined. {edge}")
    held = None if production is None else getattr(production.metrics, name)
    promote, against = _against_production(score, held, promotion.minimum_improvement)
    compared = held is not None and not math.isnan(held)
    if promote and compared and promotion.significance is not None:
        promote, told = _significantly(candidate.against["production"], promotion.significance)
        against = f"{against}, {told}"
    verdict = "Promoted" if promote else "Not promoted"
    return PromotionDecision(
        promote,
        f"{verdict}: {measured}, {against}; it is {_against_persistence(score, floor)}. {edge}",
    )


def edge_over_persistence(test: DieboldMariano, relative_mae: float, level: float) -> str:
    """Say in a sentence whether a model differs significantly from forecasting no change.

    Parameters
    ----------
    test : DieboldMariano
        Against persistence; it counts every session once.
    relative_mae : float
        Of the same forecasts; it counts every forecast once. Where sessions differ in how many they
        have, the two may disagree, and then nothing is called significant.
    level : float
        Probability below which a difference is.
    """
    if test.better(level) and relative_mae < 1:
        return f"Significant edge over persistence ({_evidence(test)})"
    if test.worse(level) and relative_mae > 1:
        return f"No significant edge over persistence, significantly worse ({_evidence(test)})"
    return f"No significant edge over persistence ({_evidence(test)})"


def _significantly(test: DieboldMariano, level: float) -> tuple[bool, str]:
    if test.better(level):
        return True, f"significantly ({_evidence(test)})"
    if test.worse(level):
        return False, f"but significantly worse session by session ({_evidence(test)})"
    return False, f"but not significantly at {level:g} ({_evidence(test)})"


def _evidence(test: DieboldMariano) -> str:
    if test.p_value is None:
        return f"no Diebold-Mariano test: {test.reason}"
    return (
        f"{100 * test.difference:+.3g}% of price in mean absolute error, "
        f"Diebold-Mariano p = {test.p_value:.2g} over {test.sessions} sessions"
    )


def _against_production(
    score: float, held: float | None, minimum_improvement: float
) -> tuple[bool, str]:
    if held is None:
        return True, "and there is no production model yet for these tickers and sessions"
    if math.isnan(held):
        return True, "and production's is undefined"
    if score >= held:
        return False, f"not lower than production's {held:.6g}"
    if score > held * (1 - minimum_improvement):
        return False, f"lower than production's {held:.6g} by less than {minimum_improvement:.2%}"
    return True, f"lower than production's {held:.6g}"


def _against_persistence(score: float, floor: float) -> str:
    if score < floor:
        return f"better than persistence ({floor:.6g})"
    return f"no better than persistence ({floor:.6g}): forecasting no change does as well or better"


def _require_same_forecasts(scores: Mapping[str, Scorecard]) -> None:
    sizes = {who: (card.metrics.forecasts, card.metrics.sessions) for who, card in scores.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{who} {size[0]} on {size[1]} sessions" for who, size in sizes.items())
        raise StockAssetsError(
            f"the models were not scored on the same forecasts: {told}",
            "Score all of them on the (session, ticker, horizon) triples that they have in common",
        )
