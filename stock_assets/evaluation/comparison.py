"""Whether a candidate model replaces the one in production."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stock_assets.config import Promotion
from stock_assets.errors import StockAssetsError
from stock_assets.evaluation.metrics import Metrics


@dataclass(frozen=True)
class PromotionDecision:
    """The decision, and a sentence that says why."""

    promote: bool
    reason: str


def decide_promotion(
    candidate: Metrics, production: Metrics | None, persistence: Metrics, promotion: Promotion
) -> PromotionDecision:
    """Decide whether the candidate becomes the production model.

    The candidate wins when there is no production model, when production's metric is undefined, or
    when its own metric is lower by at least the minimum improvement; equal is not lower. One whose
    own metric is undefined never wins. Persistence decides nothing: it is what the reason compares
    with, so that a poor winner is seen for what it is.

    Parameters
    ----------
    candidate, production, persistence : Metrics
        Scores on the same (session, ticker) pairs; ``production`` is None when there is none.
    promotion : Promotion
        The metric that decides, lower being better, and the improvement asked for.

    Raises
    ------
    StockAssetsError
        The scores are not of equally many forecasts and sessions.
    """
    _require_same_pairs(candidate, production, persistence)
    name = promotion.metric
    score, floor = getattr(candidate, name), getattr(persistence, name)
    held = None if production is None else getattr(production, name)
    measured = (
        f"the candidate's {name.upper()} is {score:.4g} on {candidate.forecasts} forecasts "
        f"of {candidate.sessions} sessions"
    )
    if math.isnan(score):
        return PromotionDecision(False, f"Not promoted: {measured}, which is undefined")
    promote, against = _against_production(score, held, promotion.minimum_improvement)
    verdict = "Promoted" if promote else "Not promoted"
    return PromotionDecision(
        promote, f"{verdict}: {measured}, {against}; it is {_against_persistence(score, floor)}"
    )


def _against_production(
    score: float, held: float | None, minimum_improvement: float
) -> tuple[bool, str]:
    if held is None:
        return True, "and there is no production model yet for these tickers and sessions"
    if math.isnan(held):
        return True, "and production's is undefined"
    if score >= held:
        return False, f"not lower than production's {held:.4g}"
    if score > held * (1 - minimum_improvement):
        return False, f"lower than production's {held:.4g} by less than {minimum_improvement:.2%}"
    return True, f"lower than production's {held:.4g}"


def _against_persistence(score: float, floor: float) -> str:
    if score < floor:
        return f"better than persistence ({floor:.4g})"
    return f"no better than persistence ({floor:.4g}): forecasting no change does as well or better"


def _require_same_pairs(
    candidate: Metrics, production: Metrics | None, persistence: Metrics
) -> None:
    scored = {"candidate": candidate, "production": production, "persistence": persistence}
    sizes = {
        who: (metrics.forecasts, metrics.sessions)
        for who, metrics in scored.items()
        if metrics is not None
    }
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{who} {size[0]} on {size[1]} sessions" for who, size in sizes.items())
        raise StockAssetsError(
            f"the models were not scored on the same forecasts: {told}",
            "Score all of them on the (session, ticker) pairs that they have in common",
        )
