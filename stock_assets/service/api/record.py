"""The head of the record, and the issues of forecasts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from stock_assets.evaluation.forecast_issues import Reason
from stock_assets.service.api.datasets import BuildEnvironment
from stock_assets.service.api.params import IssueNumber, ResponseModel
from stock_assets.service.app_state import NO_PARAMS, StateDep
from stock_assets.service.problems import NOT_FOUND, not_found
from stock_assets.storage.record import head
from stock_assets.storage.serving.forecast_issues import find_issue, newest_issue

router = APIRouter(tags=["record"])


class Link(ResponseModel):
    """The newest transaction of the record; null before the first."""

    link: int | None = Field(description="Its number, without gaps from 1.", examples=[42])
    written_at: datetime | None = Field(
        description="When its rows became known.", examples=["2013-03-01T23:31:02.123456Z"]
    )
    digest: str | None = Field(
        description="SHA-256 of its rows and of the link before.",
        examples=["4d3d9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"],
    )


class Issue(ResponseModel):
    """The inputs of an issue of a version's forecasts; null is unknown."""

    issue: int = Field(description="Number of the issue.", examples=[17])
    issued_at: datetime = Field(
        description="Time of the issue.", examples=["2013-03-01T23:31:02.123456Z"]
    )
    reason: Reason | None = Field(
        description="Of the first forecast of a ticker as of a session, how the run was started: "
        "`scheduled`, `backfill` or `manual`. Of a later one, what differs from the issue before: "
        "`model`: another version had issued that; `rollback`: the same, and this version had "
        "issued an earlier one; `revision`: prices or actions up to the as-of session; "
        "`parameters`: the parameters in force; `environment`: code, libraries or device; "
        "`rerun`: no recorded fact. The first of these that applies.",
        examples=["scheduled"],
    )
    started_by: str | None = Field(
        description="User who started the run; null for a schedule, and where it is not known.",
        examples=[None],
    )
    known_at: datetime | None = Field(
        description="Moment whose prices were read.", examples=["2013-03-01T23:30:10.123456Z"]
    )
    params: dict[str, Any] | None = Field(
        description="Parameters in force.",
        examples=[{"prices": {"tickers": ["AAPL", "FB", "GOOG", "IBM", "MSFT"]}}],
    )
    params_digest: str | None = Field(
        description="SHA-256 of the parameters.",
        examples=["2f1b9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"],
    )
    build_environment: BuildEnvironment | None = Field(
        description="Code digests and library versions."
    )
    torch: str | None = Field(description="Build of PyTorch.", examples=["2.9.0+cpu"])
    device: str | None = Field(
        description="Device and processor that computed them.", examples=["cpu x86_64 AVX2"]
    )
    dagster_run_id: str | None = Field(
        description="Dagster run.", examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"]
    )


@router.get("/record", summary="Show the head of the record", dependencies=NO_PARAMS)
def record(state: StateDep) -> Link:
    """Show the newest link: its digest covers everything recorded before it."""
    newest = head(state.engine)
    if newest is None:
        return Link(link=None, written_at=None, digest=None)
    return Link(link=newest.number, written_at=newest.written_at, digest=newest.digest)


@router.get(
    "/issues/{issue}",
    summary="Show an issue of forecasts",
    responses=NOT_FOUND,
    dependencies=NO_PARAMS,
)
def issue(issue: IssueNumber, state: StateDep) -> Issue:
    """Show the prices, parameters, code and device of an issue of forecasts."""
    found = find_issue(state.engine, issue)
    if found is None:
        newest = newest_issue(state.engine)
        known = "none yet" if newest is None else f"the newest is {newest}"
        raise not_found(f"there is no issue {issue}, {known}")
    return Issue.model_validate(found)
