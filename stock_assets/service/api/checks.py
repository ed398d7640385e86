"""Results of the checks of each run."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.service.api.params import (
    Flag,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    page_of,
)
from stock_assets.service.app_state import StateDep
from stock_assets.storage.serving.checks import CHECK_ORDER, list_checks

router = APIRouter(tags=["operations"])

Asset = Literal["raw_prices", "processed_features", "scalers", "promotion", "predictions"]
"""The assets with checks."""

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
_POSITION: TypeAdapter[tuple[datetime, str, str, str, str]] = TypeAdapter(
    tuple[datetime, _Name, _Name, _Name, _Name]
)


class Check(ResponseModel):
    """The result of a check in one run."""

    asset: str = Field(description="The checked asset.", examples=["raw_prices"])
    check_name: str = Field(description="The check.", examples=["bars_are_sound"])
    passed: bool = Field(description="Whether the check passed.", examples=[True])
    severity: str = Field(
        description="`error` if a failure blocks later steps, else `warning`.",
        examples=["warning"],
    )
    message: str = Field(description="The findings.", examples=["nothing found"])
    first_partition: str = Field(
        description="The first checked session, or the dataset.", examples=["2013-03-01"]
    )
    last_partition: str = Field(
        description="The last checked session, or the dataset.", examples=["2013-03-01"]
    )
    dagster_run_id: str = Field(
        description="Dagster run of the check.", examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"]
    )
    checked_at: datetime = Field(
        description="Time of the check.", examples=["2013-03-01T23:31:02.123456Z"]
    )


class CheckPage(Page[Check]):
    """Check results, the latest first."""


class ChecksParams(PageParams):
    """Filter of check results."""

    asset: OptionalParam[Asset] = Field(
        None, description="Only of this asset.", examples=["raw_prices"]
    )
    passed: OptionalParam[Flag] = Field(
        None, description="Only with this result.", examples=[False]
    )


@router.get("/checks", summary="List check results")
def checks(state: StateDep, query: Annotated[ChecksParams, Query()]) -> CheckPage:
    """List the result of every check of every run."""
    after = query.position(_POSITION)
    rows = list_checks(state.engine, query.asset, query.passed, query.limit + 1, after)
    return page_of(CheckPage, rows, query, CHECK_ORDER)
