"""Decisions on promotion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.evaluation import promotion_rule
from stock_assets.evaluation.promotion_rule import PromotionOutcome
from stock_assets.evaluation.significance import Edge
from stock_assets.service.api.params import (
    DatasetId,
    Flag,
    ModelVersion,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    page_of,
)
from stock_assets.service.app_state import StateDep
from stock_assets.storage.serving.decisions import (
    PROMOTION_ORDER,
    list_promotions,
)

router = APIRouter(tags=["models"])

Figures = dict[str, int | float | str | None]
"""Scores by name, as docs/evaluation.md defines them; None where a score is undefined."""

_BY_DECISION: TypeAdapter[tuple[datetime, int]] = TypeAdapter(tuple[datetime, ModelVersion])
_SCORES = {"relative_mae": 1.0016, "mape": 0.0131, "p_persistence": 0.435, "forecasts": 150}


class IntervalScores(ResponseModel):
    """The intervals of a model and a coverage on the held-out sessions."""

    model: str = Field(
        description="`candidate`, `constant_width` (the same forecasts, widths that do not follow "
        "volatility), `no_change` (the same scale around persistence) or `production`.",
        examples=["constant_width"],
    )
    nominal: float = Field(description="Coverage that the intervals aim at.", examples=[0.9])
    coverage: float = Field(description="Share of outcomes inside.", examples=[0.887])
    interval_score: float = Field(
        description="Mean interval score, a fraction of the last close; lower is better.",
        examples=[0.0712],
    )
    width: float = Field(description="Mean width, a fraction of the last close.", examples=[0.0534])
    block_coverage_p05: float | None = Field(
        description="5% quantile of the coverage of blocks of 21 sessions; null with fewer.",
        examples=[0.811],
    )
    block_coverage_p95: float | None = Field(
        description="95% quantile of the same.", examples=[0.962]
    )
    difference: float = Field(
        description="Interval score of the candidate minus this one, a mean over the sessions.",
        examples=[-0.0021],
    )
    p_value: float | None = Field(
        description="Two-sided p-value of that difference with Newey and West's error; null where "
        "it is undefined.",
        examples=[0.013],
    )
    tickers: dict[str, float] = Field(
        description="Share of outcomes inside, by ticker.", examples=[{"AAPL": 0.9, "IBM": 0.857}]
    )


class DetectorParameters(ResponseModel):
    """The parameters of a detector."""

    m0: float = Field(
        description="The mean that the clipped number may have without being evidence.",
        examples=[0.014],
    )
    b: float = Field(description="Numbers are clipped to -b and b.", examples=[0.1])


class BeforeAlarm(ResponseModel):
    """Candidate against production on the held-out sessions before those of an alarm."""

    begins: date = Field(
        description="First session that raised the alarm.", examples=["2013-02-01"]
    )
    difference: float = Field(
        description="Mean loss of the candidate minus production's, a fraction of price.",
        examples=[-0.0002],
    )
    sessions: int = Field(description="Sessions before the alarm.", examples=[41])
    p_value: float | None = Field(
        description="Of the Diebold-Mariano test; null where it is undefined.", examples=[0.21]
    )


class Shadow(ResponseModel):
    """Candidate against production on the sessions of a shadow."""

    version: int = Field(description="Version that forecast in shadow.", examples=[4])
    sessions: list[date] = Field(
        description="Target sessions that count.", examples=[["2013-03-04", "2013-03-05"]]
    )
    differences: list[float] = Field(
        description="Bounded difference of each session; negative where the candidate is better.",
        examples=[[-0.05, 0.01]],
    )
    evidence: list[float] = Field(
        description="Evidence for the candidate after each session; 20 promotes.",
        examples=[[1.02, 1.01]],
    )
    loss_difference: float = Field(
        description="Mean loss of the candidate minus production's, a fraction of price.",
        examples=[-0.0001],
    )
    forecasts: int = Field(description="Forecasts compared.", examples=[10])
    backfilled: int = Field(description="How many of them are not known to be live.", examples=[0])
    period: int = Field(
        description="Sessions after which a lower loss promotes; two of them end the shadow.",
        examples=[60],
    )


class Promotion(ResponseModel):
    """The promotion decision on a candidate, with the scores of all models on the same sessions."""

    dataset_run_id: str = Field(
        description="Dataset that the candidate was trained on.", examples=["20121231_120000"]
    )
    candidate_version: int = Field(description="Version of the candidate.", examples=[1])
    refit_version: int | None = Field(
        description="Version of the candidate refitted on all sessions; null without a refit.",
        examples=[None],
    )
    production_version: int | None = Field(
        description="Version in production that the candidate was compared with; null without one.",
        examples=[None],
    )
    model_name: str = Field(
        description="Name of the registered model.", examples=["StockPricePredictor"]
    )
    as_of_session: date = Field(
        description="Newest session that the candidate may have seen.", examples=["2012-12-31"]
    )
    promoted: bool = Field(description="Whether the candidate won the comparison.", examples=[True])
    outcome: PromotionOutcome = Field(
        description="Why the candidate was or was not promoted; `shadow`: later sessions decide.",
        examples=[PromotionOutcome.FIRST_MODEL],
    )
    in_shadow: bool = Field(
        description="Whether the candidate forecasts in shadow after this decision.",
        examples=[False],
    )
    before_alarm: BeforeAlarm | None = Field(
        description="What decided if an alarm launched the retraining; null otherwise.",
        examples=[None],
    )
    shadow: Shadow | None = Field(
        description="The sessions of the shadow that decided; null for a decision on the test "
        "segment.",
        examples=[None],
    )
    edge: Edge = Field(
        description="Candidate against persistence by the Diebold-Mariano test; `undefined` "
        "without a test.",
        examples=[Edge.NONE],
    )
    reason: str = Field(
        description="The decision in words.",
        examples=[
            "Promoted: no production model to beat, relative MAE 1.002 (persistence 1.000; "
            "150 forecasts, 30 sessions)"
        ],
    )
    metric: str = Field(
        description="The score that decided; lower is better.", examples=["relative_mae"]
    )
    first_session: date = Field(
        description="First as-of session of the comparison.", examples=["2012-11-15"]
    )
    last_session: date = Field(
        description="Last as-of session of the comparison.", examples=["2012-12-28"]
    )
    candidate: Figures = Field(description="Scores of the candidate.", examples=[_SCORES])
    candidate_raw: Figures | None = Field(
        description="Scores of the candidate without shrinkage; null if it is not shrunk.",
        examples=[{"relative_mae": 1.0031}],
    )
    production: Figures | None = Field(
        description="Scores of the version in production; null without one.",
        examples=[None],
    )
    persistence: Figures = Field(
        description="Scores of persistence, the forecast of no change.",
        examples=[{"relative_mae": 1.0}],
    )
    baselines: dict[str, Figures] = Field(
        description="Scores of the other baselines, by name.",
        examples=[
            {
                "reversal": {"relative_mae": 1.58},
                "ridge": {"relative_mae": 1.0014},
                "gradient_boosting": {"relative_mae": 1.0021},
            }
        ],
    )
    intervals: list[IntervalScores] = Field(
        description="The candidate's intervals of each coverage, the highest first, and those of "
        "equal coverage that they are compared with; empty where an earlier version decided."
    )
    detection: dict[str, DetectorParameters] | None = Field(
        description="The parameters of the candidate's detectors once it is in force, `loss`, "
        "`above` and `below`; null in decisions of earlier versions.",
        examples=[{"loss": {"m0": 0.014, "b": 0.1}}],
    )
    mlflow_run_id: str = Field(
        description="MLflow run of the retraining.", examples=["0a1b2c3d4e5f60718293a4b5c6d7e8f9"]
    )
    dagster_run_id: str | None = Field(
        description="Dagster run of the decision.",
        examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"],
    )
    decided_at: datetime = Field(
        description="Time of the decision.", examples=["2013-01-02T00:10:00.123456Z"]
    )


class PromotionPage(Page[Promotion]):
    """Promotion decisions, the latest first."""


class PromotionsParams(PageParams):
    """Filter of promotion decisions."""

    dataset_run_id: OptionalParam[DatasetId] = Field(
        None, description="Only on candidates of this dataset."
    )
    promoted: OptionalParam[Flag] = Field(None, description="Only with this result.")


def as_promotion(row: Mapping[str, Any]) -> dict[str, Any]:
    """Separate the figures that are stored with persistence's."""
    persistence, decision = dict(row["persistence"]), row["decision"]
    baselines = dict(persistence.pop("baselines", {}))
    bounds = decision.detection.detectors if decision.detection else None
    return {
        **row,
        "outcome": decision.outcome,
        "edge": decision.edge,
        "detection": bounds and {name: asdict(bound) for name, bound in bounds.items()},
        "candidate_raw": baselines.pop("candidate_raw", None),
        "intervals": persistence.pop("intervals", []),
        "in_shadow": decision.in_shadow,
        "before_alarm": _before_alarm(decision.before_alarm),
        "shadow": None if decision.shadow is None else asdict(decision.shadow),
        "baselines": baselines,
        "persistence": persistence,
    }


def _before_alarm(before: promotion_rule.BeforeAlarm | None) -> dict[str, Any] | None:
    if before is None:
        return None
    test = before.test
    names = ("difference", "sessions", "p_value")
    return {"begins": before.begins} | {name: getattr(test, name) for name in names}


@router.get("/promotions", summary="List promotion decisions")
def promotions(state: StateDep, query: Annotated[PromotionsParams, Query()]) -> PromotionPage:
    """List all promotion decisions with scores and reasons."""
    after = query.position(_BY_DECISION)
    rows = list_promotions(
        state.engine, query.dataset_run_id, query.promoted, query.limit + 1, after
    )
    return page_of(PromotionPage, [*map(as_promotion, rows)], query, PROMOTION_ORDER)
