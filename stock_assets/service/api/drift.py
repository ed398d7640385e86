"""Drift of the inputs of forecasts from those of training."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
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
from stock_assets.service.app_state import StateDep
from stock_assets.storage.serving.drift import DRIFT_ORDER, list_drift

router = APIRouter(tags=["operations"])

_Feature = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
_POSITION: TypeAdapter[tuple[date, int, str]] = TypeAdapter(tuple[Day, ModelVersion, _Feature])


class Drift(ResponseModel):
    """Drift of one feature of a model version as of a session."""

    as_of_session: date = Field(
        description="Newest of the sessions compared with training.", examples=["2013-03-01"]
    )
    model_version: int = Field(description="Version that reads the feature.", examples=[1])
    feature: str = Field(description="The feature, all tickers together.", examples=["RSI"])
    psi: float = Field(
        description="Population stability index; 0 is no drift.",
        examples=[0.134],
    )
    rows: int = Field(
        description="Number of rows (tickers times sessions) compared with training.",
        examples=[100],
    )
    baseline_p95: float = Field(
        description="95th percentile of the index over training windows of the same length.",
        examples=[0.171],
    )
    dagster_run_id: str | None = Field(
        description="Dagster run of the latest measurement.",
        examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"],
    )
    measured_at: datetime = Field(
        description="Time of the first measurement.", examples=["2013-03-01T23:31:02.123456Z"]
    )


class DriftPage(Page[Drift]):
    """Drift by feature, the newest session first."""


class DriftParams(PageParams):
    """Filter of drift."""

    model_version: OptionalParam[ModelVersion] = Field(None, description="Only of this version.")
    as_of_from: OptionalParam[Day] = Field(None, description="First as-of session.")
    as_of_to: OptionalParam[Day] = Field(None, description="Last as-of session.")


@router.get("/drift", summary="List the drift of the inputs")
def drift(state: StateDep, query: Annotated[DriftParams, Query()]) -> DriftPage:
    """List the drift of each feature, measured when forecasts are made."""
    rows = list_drift(
        state.engine,
        query.model_version,
        query.as_of_from,
        query.as_of_to,
        query.limit + 1,
        query.position(_POSITION),
    )
    return page_of(DriftPage, rows, query, DRIFT_ORDER)
