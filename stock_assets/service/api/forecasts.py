"""Forecasts: the newest of each ticker, or all."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.evaluation.forecast_issues import Issued, Reason, Role
from stock_assets.service.api.params import (
    Day,
    Flag,
    Horizon,
    ModelVersion,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    Ticker,
    Tickers,
    page_of,
)
from stock_assets.service.app_state import StateDep
from stock_assets.storage.serving.forecast_issues import ISSUE_ORDER, list_issues
from stock_assets.storage.serving.forecasts import (
    FORECAST_ORDER,
    ForecastFilter,
    list_forecasts,
    list_latest_forecasts,
)

router = APIRouter(tags=["forecasts"])

_POSITION: TypeAdapter[tuple[date, str, int, int]] = TypeAdapter(
    tuple[Day, Ticker, Horizon, ModelVersion]
)
_ISSUE_POSITION: TypeAdapter[tuple[int, int, datetime]] = TypeAdapter(
    tuple[Horizon, ModelVersion, datetime]
)


class Interval(ResponseModel):
    """An interval of a forecast."""

    coverage: float = Field(description="Nominal coverage.", examples=[0.5])
    lower: float = Field(description="Lower bound.", examples=[426.31])
    upper: float = Field(description="Upper bound.", examples=[435.27])


class Forecast(ResponseModel):
    """A forecast of the close of a session."""

    as_of_session: date = Field(
        description="Newest session that the forecast uses.", examples=["2013-03-01"]
    )
    target_session: date = Field(
        description="Session whose close is forecast.", examples=["2013-03-04"]
    )
    ticker: str = Field(description="Symbol on the exchange.", examples=["AAPL"])
    horizon: int = Field(description="Sessions from as-of to target.", examples=[1])
    last_close: float = Field(
        description="Close of the as-of session, as traded: the forecast of persistence.",
        examples=[430.47],
    )
    predicted_return: float = Field(
        description="Log return from the last close to the forecast.", examples=[0.0007]
    )
    predicted_price: float = Field(
        description="The forecast in US dollars, in the shares of the as-of session.",
        examples=[430.77],
    )
    lower_price: float = Field(description="Lower bound of the interval.", examples=[416.12])
    upper_price: float = Field(description="Upper bound of the interval.", examples=[445.93])
    coverage: float = Field(description="Nominal coverage of the interval.", examples=[0.9])
    intervals: list[Interval] | None = Field(
        description="Intervals of each coverage, ascending: the last has the bounds above; null "
        "where they were not recorded."
    )
    model_version: int = Field(
        description="Version of the registered model; 0 is persistence with calibrated intervals.",
        examples=[1],
    )
    dataset_run_id: str | None = Field(
        description="Dataset that the model was trained on; null for version 0.",
        examples=["20121231_120000"],
    )
    mlflow_run_id: str | None = Field(
        description="MLflow run of the model; null for version 0.",
        examples=["0a1b2c3d4e5f60718293a4b5c6d7e8f9"],
    )
    dagster_run_id: str | None = Field(
        description="Dagster run of the forecast.",
        examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"],
    )
    predicted_at: datetime = Field(
        description="Time of its newest issue.", examples=["2013-03-01T23:31:02.123456Z"]
    )
    issue: int | None = Field(
        description="Number of that issue, see `/issues/{issue}`; null where it was not recorded.",
        examples=[17],
    )
    role: Role | None = Field(
        description="`production`, or `shadow`: a candidate forecasts beside production, and only "
        "the decision about it uses its forecasts; null for earlier forecasts.",
        examples=["production"],
    )
    issued: Issued | None = Field(
        description="`live`: issued before the target session opened; `backfilled`: afterwards; "
        "null where it was not recorded.",
        examples=["live"],
    )


class ForecastPage(Page[Forecast]):
    """Forecasts by as-of session (the newest first), ticker, horizon and version."""


class ForecastIssue(Forecast):
    """An issue of a forecast; null is unknown."""

    reason: Reason | None = Field(
        description="Why it was issued, see `/issues/{issue}`.", examples=["scheduled"]
    )
    started_by: str | None = Field(
        description="User who started the run; null for a schedule.", examples=[None]
    )
    known_at: datetime | None = Field(
        description="Moment whose prices were read.", examples=["2013-03-01T23:30:10.123456Z"]
    )
    params_digest: str | None = Field(
        description="SHA-256 of the parameters in force.",
        examples=["2f1b9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"],
    )
    torch: str | None = Field(description="Build of PyTorch.", examples=["2.9.0+cpu"])
    device: str | None = Field(
        description="Device and processor that computed it.", examples=["cpu x86_64 AVX2"]
    )
    withdrawn_at: datetime | None = Field(
        description="When a later run no longer made the forecast; null if none.", examples=[None]
    )


class ForecastIssuePage(Page[ForecastIssue]):
    """Issues by horizon and version, the oldest first."""


class IssuesParams(PageParams):
    """Selects forecasts of a ticker as of a session."""

    horizon: OptionalParam[Horizon] = Field(None, description="Sessions ahead.", examples=[1])
    model_version: OptionalParam[ModelVersion] = Field(None, description="Only of this version.")


class ForecastsParams(PageParams):
    """Filter of forecasts."""

    ticker: Tickers = Field(
        [], description="Only these tickers; may be repeated.", examples=[["AAPL"]]
    )
    latest: Flag = Field(
        True,
        description="Only the newest as-of session of each ticker that matches the other "
        "parameters; `false` lists all forecasts of all versions.",
        examples=[True],
    )
    horizon: OptionalParam[Horizon] = Field(None, description="Sessions ahead.", examples=[1])
    model_version: OptionalParam[ModelVersion] = Field(None, description="Only of this version.")
    as_of_from: OptionalParam[Day] = Field(
        None, description="First as-of session.", examples=["2013-01-02"]
    )
    as_of_to: OptionalParam[Day] = Field(
        None, description="Last as-of session.", examples=["2013-03-01"]
    )
    target_from: OptionalParam[Day] = Field(None, description="First target session.")
    target_to: OptionalParam[Day] = Field(None, description="Last target session.")

    def filter(self) -> ForecastFilter:
        """Return the filter of the database query."""
        return ForecastFilter(
            tickers=self.ticker,
            **self.model_dump(exclude={"ticker", "latest", "limit", "cursor"}),
        )


@router.get("/forecasts", summary="List forecasts")
def forecasts(state: StateDep, query: Annotated[ForecastsParams, Query()]) -> ForecastPage:
    """List the newest forecasts of each ticker, or all.

    With `as_of_to` and `latest` these are the newest ones at the end of that session.
    """
    list_rows = list_latest_forecasts if query.latest else list_forecasts
    rows = list_rows(state.engine, query.filter(), query.limit + 1, query.position(_POSITION))
    return page_of(ForecastPage, rows, query, FORECAST_ORDER)


@router.get(
    "/forecasts/{as_of_session}/{ticker}/issues",
    summary="List every issue of a ticker's forecasts as of a session",
)
def forecast_issues(
    as_of_session: Day, ticker: Ticker, state: StateDep, query: Annotated[IssuesParams, Query()]
) -> ForecastIssuePage:
    """List every issue, including replaced and withdrawn ones.

    An equal forecast that is made again is no new issue.
    """
    rows = list_issues(
        state.engine,
        as_of_session,
        ticker,
        query.horizon,
        query.model_version,
        query.limit + 1,
        query.position(_ISSUE_POSITION),
    )
    return page_of(ForecastIssuePage, rows, query, ISSUE_ORDER)
