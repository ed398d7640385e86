"""Decisions on retraining, and their evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.evaluation.change_detection import Source
from stock_assets.evaluation.retraining_rule import RetrainingOutcome
from stock_assets.reporting.decision_text import breach_text
from stock_assets.service.api.decisions import DetectorParameters, Figures
from stock_assets.service.api.params import (
    Day,
    Flag,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    page_of,
)
from stock_assets.service.app_state import NO_PARAMS, StateDep
from stock_assets.service.problems import NOT_FOUND, not_found
from stock_assets.storage.serving.decisions import find_retraining, list_retrainings

router = APIRouter(tags=["models"])

_BY_SESSION: TypeAdapter[tuple[date]] = TypeAdapter(tuple[Day])
_FACTS = (
    *("outcome", "metrics", "backfilled", "model_version", "evidence_from"),
    *("invalid_forecasts", "age_sessions"),
)


class Breach(ResponseModel):
    """A hard limit that a score broke."""

    metric: str = Field(description="The score.", examples=["relative_mae"])
    value: float | None = Field(
        description="Its value; null if undefined, which also fails.", examples=[1.6]
    )
    limit: float = Field(description="The hard limit.", examples=[1.5])
    kind: Literal["at_most", "at_least"] = Field(
        description="Side of the limit that passes.", examples=["at_most"]
    )
    half_width: float = Field(
        description="Half the 95% confidence interval of a proportion, clustered by session; it "
        "breaks the limit only if the interval excludes it. 0 for other scores.",
        examples=[0.0],
    )
    message: str = Field(
        description="The breach in words.", examples=["relative MAE 1.600 exceeds 1.500"]
    )


class Detector(DetectorParameters):
    """A detector of a change for the worse after a session."""

    evidence: float = Field(description="Evidence M, the mean over the rates.", examples=[1.8])
    number: float | None = Field(
        description="The number of the session, not clipped; null without one.", examples=[0.012]
    )


class Alarm(ResponseModel):
    """The evidence of the detectors and its limit."""

    evidence: float = Field(description="Mean of the detectors' evidence.", examples=[1.2])
    limit: float = Field(
        description="Evidence that raises the alarm. If the mean of each clipped number, given the "
        "past, is at most its m0, the expected number of sessions to a false alarm is at least "
        "this, however tickers move together.",
        examples=[252.0],
    )
    raised: bool = Field(description="Whether the limit is reached.", examples=[False])
    source: Source = Field(
        description="Where m0 and b come from: the held-out sessions of the promotion decision, "
        "the scores of a decision of an earlier version, or defaults.",
        examples=[Source.HELD_OUT],
    )
    detectors: dict[str, Detector] = Field(
        description="`loss` reads the error against persistence's, `above` and `below` the shares "
        "of tickers above and below their intervals."
    )


class Retraining(ResponseModel):
    """The retraining decision on the scores up to a session."""

    session: date = Field(description="Newest scored session.", examples=["2013-03-01"])
    retrain: bool = Field(description="Whether a retraining was decided.", examples=[True])
    outcome: RetrainingOutcome = Field(
        description="Result of the check. `alarm`, `hard_limit`, `age` and `no_model` launch a "
        "retraining; `breach` and `too_few` are of earlier versions.",
        examples=[RetrainingOutcome.HARD_LIMIT],
    )
    reason: str = Field(
        description="The decision in words.",
        examples=[
            "Retrain: relative MAE 1.600 exceeds 1.500 (100 forecasts of 20 sessions up to "
            "2013-03-01)"
        ],
    )
    model_version: int | None = Field(
        description="The version in force; null in decisions of earlier versions.", examples=[1]
    )
    evidence_from: date | None = Field(
        description="First session of the evidence; null where it was not recorded.",
        examples=["2013-02-01"],
    )
    alarm: Alarm | None = Field(
        description="The detectors; null for persistence and in decisions of earlier versions."
    )
    breaches: list[Breach] = Field(
        description="Each hard limit that was broken, also while cooling down."
    )
    invalid_forecasts: bool = Field(
        description="Whether the newest forecasts of the version failed their check.",
        examples=[False],
    )
    age_sessions: int | None = Field(
        description="Sessions since the version's newest data or the last retraining.",
        examples=[40],
    )
    metrics: Figures | None = Field(
        description="Scores of the newest sessions, which the hard limits are about; null without "
        "scores.",
        examples=[{"relative_mae": 1.6, "mape": 0.02, "direction_accuracy": 0.45}],
    )
    backfilled: int | None = Field(
        description="How many of the forecasts are not known to be live; null where it was not "
        "recorded.",
        examples=[0],
    )
    dataset_run_id: str | None = Field(
        description="Dataset of the retraining; null without one.",
        examples=["20130301_233000"],
    )
    decided_at: datetime = Field(
        description="Time of the decision.", examples=["2013-03-01T23:35:00.123456Z"]
    )


class EvidencePoint(ResponseModel):
    """The evidence after a session."""

    session: date = Field(description="Scored session.", examples=["2013-03-01"])
    evidence: float = Field(description="Mean of the detectors' evidence.", examples=[1.2])


class RetrainingWithPath(Retraining):
    """A retraining decision and the path of its evidence."""

    path: list[EvidencePoint] = Field(
        description="Evidence after each session since it began, oldest first."
    )


class RetrainingPage(Page[Retraining]):
    """Retraining decisions, the newest session first."""


class RetrainingsParams(PageParams):
    """Filter of retraining decisions."""

    retrain: OptionalParam[Flag] = Field(None, description="Only with this result.")
    session_from: OptionalParam[Day] = Field(None, description="First session.")
    session_to: OptionalParam[Day] = Field(None, description="Last session.")


def as_retraining(row: Mapping[str, Any]) -> dict[str, Any]:
    """Add the facts of the decision, and each breach in words."""
    decision = row["decision"]
    facts = {name: getattr(decision, name) for name in _FACTS}
    alarm = decision.alarm
    return {
        **row,
        **facts,
        "alarm": alarm and asdict(alarm) | {"raised": alarm.raised},
        "breaches": [
            asdict(breach) | {"message": breach_text(breach)} for breach in decision.breaches
        ],
    }


@router.get("/retrainings", summary="List retraining decisions")
def retrainings(state: StateDep, query: Annotated[RetrainingsParams, Query()]) -> RetrainingPage:
    """List all retraining decisions with scores and reasons."""
    rows = list_retrainings(
        state.engine,
        query.retrain,
        query.session_from,
        query.session_to,
        query.limit + 1,
        query.position(_BY_SESSION),
    )
    return page_of(RetrainingPage, [*map(as_retraining, rows)], query, ["session"])


@router.get(
    "/retrainings/{session}",
    summary="Show a retraining decision",
    responses=NOT_FOUND,
    dependencies=NO_PARAMS,
)
def retraining(session: Day, state: StateDep) -> RetrainingWithPath:
    """Show the decision about a session, and the path of its evidence."""
    row = find_retraining(state.engine, session)
    if row is None:
        raise not_found(f"there is no retraining decision about {session}")
    alarm = row["decision"].alarm
    path = [
        {"session": day, "evidence": value} for day, value in (alarm.path if alarm else {}).items()
    ]
    return RetrainingWithPath.model_validate(as_retraining(row) | {"path": path})
