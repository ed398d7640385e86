"""Decisions in words: the one place where their facts become sentences."""

from __future__ import annotations

from stock_assets.evaluation.alarm import AlarmState
from stock_assets.evaluation.hard_limits import ThresholdCheck
from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION
from stock_assets.evaluation.promotion_rule import PromotionDecision, PromotionOutcome
from stock_assets.evaluation.retraining_rule import RetrainingDecision, RetrainingOutcome
from stock_assets.evaluation.shadow_rule import ENOUGH, ShadowEvidence
from stock_assets.evaluation.significance import DieboldMariano, Edge

_LABELS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "mape": "MAPE",
    "relative_mae": "relative MAE",
    "direction_accuracy": "direction accuracy",
}
_DETECTORS = {"loss": "accuracy", "above": "above intervals", "below": "below intervals"}
_FRACTIONS = ("mape", "direction_accuracy")
_MOST_DECIMALS = 9


def promotion_text(decision: PromotionDecision) -> str:
    """Describe a promotion decision: what decided, the edge over persistence, what was left out."""
    outcome = "Promoted" if decision.promote else "Not promoted"
    candidate, production, persistence = _numbers(
        decision.metric, decision.candidate, decision.production, decision.persistence
    )
    score = f"{_LABELS[decision.metric]} {candidate}"
    beats = f"{score} beats production's {production}"
    test = decision.against_production
    evidence = "" if test is None else _evidence(test)
    facts = {
        PromotionOutcome.FIRST_MODEL: f"no production model to beat, {score}",
        PromotionOutcome.BETTER: beats,
        PromotionOutcome.PRODUCTION_UNDEFINED: f"{score}, production's is undefined",
        PromotionOutcome.CANDIDATE_UNDEFINED: score,
        PromotionOutcome.NOT_BETTER: f"{score} does not beat production's {production}",
        PromotionOutcome.MARGIN_NOT_REACHED: (
            f"{beats} by less than {decision.minimum_improvement or 0.0:.2%}"
        ),
        PromotionOutcome.NOT_SIGNIFICANT: f"{beats}, but not significantly ({evidence})",
        PromotionOutcome.SIGNIFICANTLY_WORSE: (
            f"{beats}, but averaged session by session the candidate is significantly worse "
            f"({evidence})"
        ),
        PromotionOutcome.BELOW_FLOOR: (
            f"{score} is below the floor ({decision.floor} than persistence)"
        ),
        **_shadow_facts(decision, score, production),
    }
    if decision.in_shadow:
        outcome = "In shadow"
    sentences = [
        f"{outcome}: {facts[decision.outcome]} (persistence {persistence}; "
        f"{decision.forecasts} forecasts, {decision.sessions} sessions)",
        edge_text(decision.edge, decision.against_persistence),
    ]
    if decision.evaluated_version is not None:
        sentences.append(
            f"Version {decision.evaluated_version} was scored in place of its refit in production"
        )
    if decision.unmatched_forecasts:
        sentences.append(
            f"{decision.unmatched_forecasts} forecasts without a counterpart in production were "
            "not compared"
        )
    return ". ".join(sentences)


def shadow_text(evidence: ShadowEvidence) -> str:
    """Describe a shadow whose decision is not due yet."""
    count, period = len(evidence.sessions), evidence.period
    if not count:
        return f"No session is scored yet; after {period} the loss decides"
    relation = "lower" if evidence.loss_difference < 0 else "no lower"
    rest = (
        f"after {period} the loss decides"
        if count < period
        else f"until {2 * period} the evidence alone promotes"
    )
    return (
        f"{count} sessions scored: {relation} loss than production's, evidence "
        f"{evidence.current:.2g} of {ENOUGH:g}; {rest}"
    )


def _shadow_facts(
    decision: PromotionDecision, score: str, production: str
) -> dict[PromotionOutcome, str]:
    """Describe the sessions before an alarm, and those of a shadow."""
    facts = {}
    if decision.before_alarm is not None:
        before = decision.before_alarm
        facts[PromotionOutcome.SHADOW] = (
            f"not significantly better than production before the alarm of {before.begins} "
            f"({_evidence(before.test)}), so later sessions decide"
        )
        facts[PromotionOutcome.BETTER] = (
            f"significantly better than production before the alarm of {before.begins} "
            f"({_evidence(before.test)})"
        )
    if decision.shadow is not None:
        shadow = decision.shadow
        compared = (
            f"{score} against production's {production} in {len(shadow.sessions)} sessions of "
            f"shadow{backfilled_text(shadow.backfilled, shadow.forecasts)}"
        )
        evidence = f"evidence {shadow.current:.2g} of {ENOUGH:g}"
        more = "" if shadow.is_over else f", {shadow.period} more sessions decide"
        facts |= {
            PromotionOutcome.SHADOW_BETTER: f"{compared}, {evidence} reached",
            PromotionOutcome.SHADOW_LOWER_LOSS: f"lower loss, {compared}, {evidence}",
            PromotionOutcome.SHADOW_LOST: f"no lower loss, {compared}, {evidence}{more}",
            PromotionOutcome.SHADOW_REPLACED: (
                f"another candidate entered the shadow after {len(shadow.sessions)} sessions, "
                f"{evidence}"
            ),
        }
    return facts


def edge_text(edge: Edge, test: DieboldMariano) -> str:
    """Describe how a model compares with persistence, and the test behind it."""
    if edge is Edge.BETTER:
        return f"Significant edge over persistence ({_evidence(test)})"
    if edge is Edge.WORSE:
        return f"Significantly worse than persistence ({_evidence(test)})"
    return f"No significant edge over persistence ({_evidence(test)})"


def retraining_text(decision: RetrainingDecision) -> str:
    """Describe a retraining decision: the evidence, and what launched a retraining."""
    window = (
        f"{decision.forecasts} forecasts of {decision.sessions} sessions up to {decision.session}"
        f"{backfilled_text(decision.backfilled, decision.forecasts)}"
    )
    last, cause = decision.last_retraining, f"{_cause(decision)} ({window})"
    if decision.outcome is RetrainingOutcome.NO_SCORES:
        since = "yet" if last is None else f"since the retraining as of {last}"
        return f"No decision: no forecast of the version in force is scored {since}"
    if decision.outcome is RetrainingOutcome.TOO_FEW:
        return f"No decision: {window}, fewer than {decision.minimum_forecasts} forecasts"
    if decision.outcome is RetrainingOutcome.HEALTHY:
        return f"Healthy: {cause}"
    if decision.outcome is RetrainingOutcome.COOLING_DOWN:
        return (
            f"Cooling down, {decision.elapsed_sessions} of {decision.cooldown_sessions} sessions "
            f"since the retraining as of {last}: {cause}"
        )
    return f"Retrain: {cause}"


def _cause(decision: RetrainingDecision) -> str:
    """Describe what launches a retraining, or would outside the cooldown, or that nothing does."""
    causes = [*map(breach_text, decision.breaches)]
    if decision.invalid_forecasts:
        causes.append("the newest forecasts are invalid")
    alarm = decision.alarm
    if alarm is not None and alarm.raised:
        causes.append(f"the alarm is raised, {evidence_text(alarm)}")
    old = (
        decision.due_sessions is not None and (decision.age_sessions or 0) >= decision.due_sessions
    )
    age = f"{decision.age_sessions} of {decision.due_sessions} sessions"
    if decision.model_version == PERSISTENCE_VERSION:
        return f"persistence (version 0) is in force, {age} to the next retraining"
    if old:
        causes.append(f"the maximum age is reached, {age}")
    if causes:
        return "; ".join(causes)
    return "every threshold is met" if alarm is None else evidence_text(alarm)


def evidence_text(alarm: AlarmState) -> str:
    """Describe the evidence of a decision and that of each detector."""
    parts = ", ".join(
        f"{_DETECTORS[name]} {_rounded(state.evidence)}" for name, state in alarm.detectors.items()
    )
    return f"evidence {_rounded(alarm.evidence)} of {alarm.limit:g} ({parts})"


def _rounded(value: float) -> str:
    """Write evidence with two digits below a hundred and as an integer above."""
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def backfilled_text(backfilled: int | None, forecasts: int) -> str:
    """Return the mark of scores that rest on backfilled forecasts; empty without any."""
    if not backfilled:
        return ""
    if backfilled == forecasts:
        return ", on backfilled forecasts"
    return f", {backfilled} of them backfilled"


def breach_text(breach: ThresholdCheck) -> str:
    """Describe a broken hard limit."""
    label = _LABELS.get(breach.metric, breach.metric)  # a migrated one may have another name
    value, limit = _numbers(breach.metric, breach.value, breach.limit)
    if breach.value is None:
        return f"{label} is undefined"
    relation = "exceeds" if breach.kind == "at_most" else "is below"
    beyond = " beyond its confidence interval" if breach.half_width else ""
    return f"{label} {value} {relation} {limit}{beyond}"


def _evidence(test: DieboldMariano) -> str:
    if test.p_value is None:
        return f"no Diebold-Mariano test: {test.reason}"
    relation = "lower" if test.difference < 0 else "higher"
    return (
        f"error {relation} by {100 * abs(test.difference):.2g}% of price, "
        f"Diebold-Mariano p = {test.p_value:.2g}, {test.sessions} sessions"
    )


def _numbers(metric: str, *values: float | None) -> list[str]:
    """Write scores with three digits, more where two different scores would look equal."""
    kind, decimals = ("%", 1) if metric in _FRACTIONS else ("f", 3)
    while True:
        texts = ["undefined" if value is None else f"{value:.{decimals}{kind}}" for value in values]
        if len(set(texts)) == len(set(values)) or decimals == _MOST_DECIMALS:
            return texts
        decimals += 1
