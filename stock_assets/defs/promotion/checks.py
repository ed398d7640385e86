"""The check of ``promotion``."""

from datetime import date

import dagster as dg

from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.market.calendar import sessions

FRESH = "winner_is_fresh"

MAXIMUM_AGE = 5
"""Most sessions from the newest label that a winner was trained on to its as-of session."""

SPECS = [
    dg.AssetCheckSpec(
        FRESH,
        asset="promotion",
        description=(
            f"The newest label that a winner was trained on is at most {MAXIMUM_AGE} sessions "
            "before its as-of session. A warning: a candidate without `promotion.refit` is older."
        ),
    )
]


def fresh(winner: ModelVersion | None, newest_label: date | None) -> dg.AssetCheckResult:
    """Return the result of ``winner_is_fresh``; it passes without a winner."""
    age = 0
    message = "the candidate was not promoted"
    if winner is not None and newest_label is not None:
        age = len(sessions(newest_label, winner.as_of)) - 1
        message = (
            f"{winner} was trained on labels up to {newest_label}, {age} sessions before its "
            f"as-of session"
        )
    return dg.AssetCheckResult(
        check_name=FRESH,
        passed=age <= MAXIMUM_AGE,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"age_sessions": age},
        description=message,
    )
