"""Checks: what was examined in each run, and what was found."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

from stock_assets.service.api.params import (
    Flag,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    page_of,
)
from stock_assets.service.app_state import AppStateDependency
from stock_assets.storage.serving.checks import CHECK_ORDER, list_checks

router = APIRouter(tags=["operations"])

Asset = Literal["raw_prices", "processed_features", "predictions"]
"""The assets that have checks."""

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
_POSITION: TypeAdapter[tuple[datetime, str, str, str]] = TypeAdapter(
    tuple[datetime, _Name, _Name, _Name]
)


class Check(ResponseModel):
    """What a check found in one run."""

    asset: str = Field(description="The asset that was examined.", examples=["raw_prices"])
    check_name: str = Field(description="The check.", examples=["bars_are_sound"])
    passed: bool = Field(description="Whether nothing was found.", examples=[True])
    severity: str = Field(
        description="`error` if a finding stops what comes after, or `warning`.",
        examples=["warning"],
    )
    message: str = Field(description="What was found.", examples=["nothing found"])
    first_partition: str = Field(
        description="The first session, or the dataset, that was examined.",
        examples=["2013-03-01"],
    )
    last_partition: str = Field(description="The last one.", examples=["2013-03-01"])
    dagster_run_id: str = Field(
        description="The run that examined it.", examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"]
    )
    checked_at: datetime = Field(description="When.", examples=["2013-03-01T23:31:02.123456Z"])


class CheckPage(Page[Check]):
    """Checks, the last one made first."""


class ChecksParams(PageParams):
    """Which checks."""

    asset: OptionalParam[Asset] = Field(None, description="Of this asset.", examples=["raw_prices"])
    passed: OptionalParam[Flag] = Field(None, description="With this outcome.", examples=[False])


@router.get("/checks", response_model=CheckPage, summary="List what checks found")
def checks(
    request: Request, served: AppStateDependency, asked: Annotated[ChecksParams, Query()]
) -> Response:
    """Give the outcome of every check of every run."""

    def make() -> CheckPage:
        after = asked.position(_POSITION)
        rows = list_checks(served.engine, asked.asset, asked.passed, asked.limit + 1, after)
        return page_of(CheckPage, rows, asked, CHECK_ORDER)

    return served.answers.json(request, make)
