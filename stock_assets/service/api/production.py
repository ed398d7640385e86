"""The history of production."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.evaluation.production_rule import Cause
from stock_assets.service.api.params import (
    ModelVersion,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    page_of,
)
from stock_assets.service.app_state import StateDep
from stock_assets.storage.serving.production import list_changes

router = APIRouter(tags=["models"])

_POSITION: TypeAdapter[tuple[int]] = TypeAdapter(tuple[ModelVersion])


class ProductionChange(ResponseModel):
    """A change of the version in force."""

    id: int = Field(description="Ascending in the order of the changes.", examples=[1])
    model_name: str = Field(
        description="Name of the registered model.", examples=["StockPricePredictor"]
    )
    model_version: int | None = Field(
        description="The version put in force; 0 is persistence; null where the alias was removed "
        "in MLflow, which leaves persistence in force.",
        examples=[1],
    )
    dataset_run_id: str | None = Field(
        description="Dataset that the version was trained on; null for version 0.",
        examples=["20121231_120000"],
    )
    digest: str | None = Field(
        description="SHA-256 of the version; null for a change that is older than this history.",
        examples=["4d3d9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"],
    )
    refit_of: int | None = Field(
        description="The candidate that it is a refit of; null for a candidate.", examples=[None]
    )
    mlflow_run_id: str | None = Field(
        description="MLflow run of the version.", examples=["0a1b2c3d4e5f60718293a4b5c6d7e8f9"]
    )
    from_session: date | None = Field(
        description="First as-of session that it is in force for: the newest that it may have "
        "seen.",
        examples=["2012-12-31"],
    )
    until_session: date | None = Field(
        description="For a winner of a past session, the as-of session of the later version, which "
        "stays in production; otherwise null.",
        examples=[None],
    )
    in_force_from: datetime = Field(
        description="Time of the change.", examples=["2013-01-02T00:10:00.123456Z"]
    )
    in_force_until: datetime | None = Field(
        description="Time of the change that replaced it; null for the newest change of a "
        "registered model, and for a winner of a past session.",
        examples=[None],
    )
    in_production: bool = Field(
        description="Whether its version is in production by this change.", examples=[True]
    )
    cause: Cause = Field(
        description="Cause of the change; `step_down`: a hard limit was broken; `found_outside`: "
        "the alias was moved or removed in MLflow.",
        examples=[Cause.PROMOTION],
    )
    changed_by: str | None = Field(
        description="Person who made the change; null for a run, and where it is unknown.",
        examples=[None],
    )
    why: str | None = Field(
        description="Reason, in words; null where it was not recorded.",
        examples=["Promoted: no production model to beat"],
    )
    dagster_run_id: str | None = Field(
        description="Dagster run that made or found the change.",
        examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"],
    )


class ProductionPage(Page[ProductionChange]):
    """Changes of the version in force, the newest first."""


class ProductionParams(PageParams):
    """Filter of changes."""

    model_version: OptionalParam[ModelVersion] = Field(
        None, description="Only those that put this version in force."
    )


@router.get("/production", summary="List the history of production")
def production(state: StateDep, query: Annotated[ProductionParams, Query()]) -> ProductionPage:
    """List every change of the version in force: from when, by what or whom, and why."""
    after = query.position(_POSITION)
    rows = list_changes(state.engine, state.model_name, query.model_version, query.limit + 1, after)
    return page_of(ProductionPage, rows, query, ["id"])
