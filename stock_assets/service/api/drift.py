"""Drift: how far the inputs of forecasts are distributed from those of training."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

from stock_assets.service.api.params import (
    Day,
    ModelVersion,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    page_of,
)
from stock_assets.service.app_state import AppStateDependency
from stock_assets.storage.serving.drift import DRIFT_ORDER, list_drift

router = APIRouter(tags=["operations"])

_Feature = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
_POSITION: TypeAdapter[tuple[date, int, str]] = TypeAdapter(tuple[Day, ModelVersion, _Feature])


class Drift(ResponseModel):
    """How far one input of a model version had drifted as of a session."""

    as_of_session: date = Field(
        description="The newest of the sessions that were held against training.",
        examples=["2013-03-01"],
    )
    model_version: int = Field(description="The version that read them.", examples=[1])
    feature: str = Field(description="The feature, of all tickers.", examples=["RSI"])
    psi: float = Field(
        description="Population stability index: 0 is no change.",
        examples=[0.134],
    )
    rows: int = Field(
        description="Rows, of so many tickers and sessions, that were held against training.",
        examples=[100],
    )
    baseline_p95: float = Field(
        description="The index that one in twenty windows of as many sessions of training has.",
        examples=[0.171],
    )
    dagster_run_id: str | None = Field(
        description="Run that measured it last.",
        examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"],
    )
    measured_at: datetime = Field(
        description="When it was first measured.", examples=["2013-03-01T23:31:02.123456Z"]
    )


class DriftPage(Page[Drift]):
    """Drift by feature, the newest session first."""


class DriftParams(PageParams):
    """Which drift."""

    model_version: OptionalParam[ModelVersion] = Field(
        None, description="Of this version's inputs."
    )
    as_of_from: OptionalParam[Day] = Field(None, description="First as-of session.")
    as_of_to: OptionalParam[Day] = Field(None, description="Last as-of session.")


@router.get("/drift", response_model=DriftPage, summary="List the drift of the inputs")
def drift(
    request: Request, served: AppStateDependency, asked: Annotated[DriftParams, Query()]
) -> Response:
    """Give the drift of each feature, as it was measured when forecasts were made."""

    def make() -> DriftPage:
        rows = list_drift(
            served.engine,
            asked.model_version,
            asked.as_of_from,
            asked.as_of_to,
            asked.limit + 1,
            asked.position(_POSITION),
        )
        return page_of(DriftPage, rows, asked, DRIFT_ORDER)

    return served.answers.json(request, make)
