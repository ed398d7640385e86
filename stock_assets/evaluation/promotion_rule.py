"""Whether a candidate model replaces the one in production.

Two decisions may concern a candidate. The first is on the test segment. It is final, unless an
alarm launched the retraining: then the sessions that raised the alarm decide nothing, and a
candidate that is not significantly better on the sessions before them is forecast beside
production, in *shadow*. The second decision is on the sessions of the shadow, see
:mod:`stock_assets.evaluation.shadow_rule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from stock_assets.config import Promotion
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.change_detection import DetectorBounds
from stock_assets.evaluation.metrics import undefined_as_none
from stock_assets.evaluation.scorecard import Scorecard
from stock_assets.evaluation.shadow_rule import ShadowEvidence, ShadowOutcome
from stock_assets.evaluation.significance import (
    DEFAULT_LEVEL,
    DieboldMariano,
    Edge,
    edge_over_persistence,
)


class PromotionOutcome(StrEnum):
    """Why the candidate was promoted or not; those of `_PROMOTING` promote."""

    FIRST_MODEL = "first_model"
    BETTER = "better"
    PRODUCTION_UNDEFINED = "production_undefined"
    CANDIDATE_UNDEFINED = "candidate_undefined"
    NOT_BETTER = "not_better"
    MARGIN_NOT_REACHED = "margin_not_reached"
    NOT_SIGNIFICANT = "not_significant"
    SIGNIFICANTLY_WORSE = "significantly_worse"
    BELOW_FLOOR = "below_floor"
    SHADOW = "shadow"
    SHADOW_BETTER = "shadow_better"
    SHADOW_LOWER_LOSS = "shadow_lower_loss"
    SHADOW_LOST = "shadow_lost"
    SHADOW_REPLACED = "shadow_replaced"


FLOOR_LEVEL = 0.05
"""Level of the test against persistence."""

_PROMOTING = (
    PromotionOutcome.FIRST_MODEL,
    PromotionOutcome.BETTER,
    PromotionOutcome.PRODUCTION_UNDEFINED,
    PromotionOutcome.SHADOW_BETTER,
    PromotionOutcome.SHADOW_LOWER_LOSS,
)

_REFUSED = (PromotionOutcome.CANDIDATE_UNDEFINED, PromotionOutcome.BELOW_FLOOR)
"""Outcomes that no comparison with production changes."""

_OF_SHADOW = {
    ShadowOutcome.BETTER: PromotionOutcome.SHADOW_BETTER,
    ShadowOutcome.LOWER_LOSS: PromotionOutcome.SHADOW_LOWER_LOSS,
    ShadowOutcome.LOST: PromotionOutcome.SHADOW_LOST,
}


@dataclass(frozen=True)
class BeforeAlarm:
    """The test against production on the held-out sessions before those that raised an alarm.

    Attributes
    ----------
    begins : date
        The first session that raised the alarm.
    test : DieboldMariano
        On the target sessions before it.
    """

    begins: date
    test: DieboldMariano


@dataclass(frozen=True)
class PromotionDecision:
    """A decision about a candidate and the numbers it rests on.

    Attributes
    ----------
    outcome : PromotionOutcome
    metric : str
        The score that decided; lower is better.
    candidate, production, persistence : float or None
        That score of each; None where it is undefined, or persistence was in force.
    forecasts, sessions : int
        Size of the comparison.
    minimum_improvement : float or None
        Required improvement, a fraction; None where it was not recorded.
    significance : float or None
        Required level of the test against production; None where none was required.
    against_production : DieboldMariano or None
        Test of the candidate against production; None where persistence was in force.
    against_persistence : DieboldMariano
        The floor rests on it.
    edge : Edge
        The candidate against persistence. It decides nothing.
    unmatched_forecasts : int
        Forecasts of the candidate without a counterpart in production; they were not compared.
    evaluated_version : int or None
        The candidate that was scored in place of its refit in production, on the sessions before
        the refit's as-of session; None where production itself was scored on all.
    floor : str or None
        ``promotion.floor`` at the time; None where there was none yet.
    detection : DetectorBounds or None
        The parameters of the candidate's detectors once it is in force, from the same sessions;
        None in decisions of earlier versions.
    before_alarm : BeforeAlarm or None
        What decided where an alarm launched the retraining; None where the whole segment did.
    shadow : ShadowEvidence or None
        The sessions of the shadow that decided; None for a decision on the test segment.
    """

    outcome: PromotionOutcome
    metric: str
    candidate: float | None
    production: float | None
    persistence: float | None
    forecasts: int
    sessions: int
    minimum_improvement: float | None
    significance: float | None
    against_production: DieboldMariano | None
    against_persistence: DieboldMariano
    edge: Edge
    unmatched_forecasts: int = 0
    evaluated_version: int | None = None
    floor: str | None = None
    detection: DetectorBounds | None = None
    before_alarm: BeforeAlarm | None = None
    shadow: ShadowEvidence | None = None

    @property
    def promote(self) -> bool:
        """Whether the candidate wins."""
        return self.outcome in _PROMOTING

    @property
    def in_shadow(self) -> bool:
        """Whether the candidate forecasts in shadow after this decision."""
        if self.outcome is PromotionOutcome.SHADOW_LOST:
            return self.shadow is not None and not self.shadow.is_over
        return self.outcome is PromotionOutcome.SHADOW


def decide_promotion(
    scores: Mapping[str, Scorecard],
    promotion: Promotion,
    unmatched_forecasts: int = 0,
    evaluated_version: int | None = None,
    detection: DetectorBounds | None = None,
    before_alarm: BeforeAlarm | None = None,
) -> PromotionDecision:
    """Decide on the test segment whether the candidate becomes the production model.

    The candidate wins when persistence is in force, when production's metric is undefined, or when
    its own metric is lower by at least the minimum improvement; equal is not lower. A candidate
    whose own metric is undefined never wins, and neither does one below ``promotion.floor``: by the
    Diebold-Mariano test at `FLOOR_LEVEL` it is significantly worse than persistence, or, with
    ``better``, not significantly better. With ``promotion.significance`` set, a
    candidate that meets a production model must also be better by the Diebold-Mariano test; an
    undefined test is no difference.

    Where an alarm launched the retraining and there is a production model, the candidate wins if it
    is significantly better on the sessions before the alarm, and forecasts in shadow otherwise.

    Parameters
    ----------
    scores : mapping of str to Scorecard
        Of ``candidate``, ``persistence`` and, where there is one, ``production``, on the same
        (session, ticker, horizon) triples.
    promotion : Promotion
        The metric that decides, the required improvement and the required significance.
    unmatched_forecasts : int
    evaluated_version : int, optional
    detection : DetectorBounds, optional
    before_alarm : BeforeAlarm, optional
        As for `PromotionDecision`.

    Raises
    ------
    StockAssetsError
        The scores are not of equally many forecasts and sessions.
    """
    _require_same_forecasts(scores)
    values = undefined_as_none(
        {name: getattr(card.metrics, promotion.metric) for name, card in scores.items()}
    )
    candidate = scores["candidate"]
    metrics, tests = candidate.metrics, candidate.against
    against_production = tests["production"] if "production" in scores else None
    before_alarm = before_alarm if against_production else None
    outcome = _outcome(values, tests["persistence"], against_production, promotion)
    if before_alarm is not None and outcome not in _REFUSED:
        better = before_alarm.test.better(promotion.significance or DEFAULT_LEVEL)
        outcome = PromotionOutcome.BETTER if better else PromotionOutcome.SHADOW
    return PromotionDecision(
        outcome=outcome,
        metric=promotion.metric,
        candidate=values["candidate"],
        production=values.get("production"),
        persistence=values["persistence"],
        forecasts=metrics.forecasts,
        sessions=metrics.sessions,
        minimum_improvement=promotion.minimum_improvement,
        significance=promotion.significance,
        against_production=against_production,
        against_persistence=tests["persistence"],
        edge=edge_over_persistence(
            tests["persistence"], metrics.relative_mae, promotion.significance
        ),
        unmatched_forecasts=unmatched_forecasts,
        evaluated_version=evaluated_version if against_production else None,
        floor=promotion.floor,
        detection=detection,
        before_alarm=before_alarm,
    )


def decide_after_shadow(
    scores: Mapping[str, Scorecard],
    outcome: ShadowOutcome,
    evidence: ShadowEvidence,
    promotion: Promotion,
) -> PromotionDecision:
    """Build the decision about a candidate in shadow. The floor holds for it, too.

    Parameters
    ----------
    scores : mapping of str to Scorecard
        Of ``candidate``, ``production`` and ``persistence``, on the forecasts of the shadow.
    outcome : ShadowOutcome
        From :func:`stock_assets.evaluation.shadow_rule.decide_shadow`; not `ShadowOutcome.OPEN`.
    evidence : ShadowEvidence
        The sessions that decided.
    promotion : Promotion
    """
    decision = replace(
        decide_promotion(scores, promotion), outcome=_OF_SHADOW[outcome], shadow=evidence
    )
    if decision.promote and is_below_floor(decision.against_persistence, promotion):
        return replace(decision, outcome=PromotionOutcome.BELOW_FLOOR)
    return decision


def _outcome(
    values: Mapping[str, float | None],
    against_persistence: DieboldMariano,
    test: DieboldMariano | None,
    promotion: Promotion,
) -> PromotionOutcome:
    candidate, production = values["candidate"], values.get("production")
    if candidate is None:
        return PromotionOutcome.CANDIDATE_UNDEFINED
    if is_below_floor(against_persistence, promotion):
        return PromotionOutcome.BELOW_FLOOR
    if test is None:
        return PromotionOutcome.FIRST_MODEL
    if production is None:
        return PromotionOutcome.PRODUCTION_UNDEFINED
    if candidate >= production:
        return PromotionOutcome.NOT_BETTER
    if candidate > production * (1 - promotion.minimum_improvement):
        return PromotionOutcome.MARGIN_NOT_REACHED
    level = promotion.significance
    if level is None or test.better(level):
        return PromotionOutcome.BETTER
    if test.worse(level):
        return PromotionOutcome.SIGNIFICANTLY_WORSE
    return PromotionOutcome.NOT_SIGNIFICANT


def is_below_floor(against_persistence: DieboldMariano, promotion: Promotion) -> bool:
    """Whether ``promotion.floor`` refuses a candidate; an undefined test is no difference."""
    if promotion.floor == "better":
        return not against_persistence.better(FLOOR_LEVEL)
    return promotion.floor == "not_worse" and against_persistence.worse(FLOOR_LEVEL)


def _require_same_forecasts(scores: Mapping[str, Scorecard]) -> None:
    sizes = {name: (card.metrics.forecasts, card.metrics.sessions) for name, card in scores.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {n} on {days} sessions" for name, (n, days) in sizes.items())
        raise StockAssetsError(
            f"the models were not scored on the same forecasts: {listed}",
            "Score all of them on the (session, ticker, horizon) triples that they have in common",
        )
