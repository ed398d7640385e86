"""Forecasts: those that stand, and every one ever made."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

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
from stock_assets.service.app_state import AppStateDependency
from stock_assets.storage.serving.forecasts import (
    FORECAST_ORDER,
    WantedForecasts,
    list_forecasts,
    list_latest_forecasts,
)

router = APIRouter(tags=["forecasts"])

_POSITION: TypeAdapter[tuple[date, str, int, int]] = TypeAdapter(
    tuple[Day, Ticker, Horizon, ModelVersion]
)


class Forecast(ResponseModel):
    """What a model said, at the end of one session, about the close of a later one."""

    as_of_session: date = Field(
        description="The newest session that the forecast knew.", examples=["2013-03-01"]
    )
    target_session: date = Field(
        description="The session whose close is forecast.", examples=["2013-03-04"]
    )
    ticker: str = Field(description="The exchange's symbol.", examples=["AAPL"])
    horizon: int = Field(description="Sessions from the one to the other.", examples=[1])
    last_close: float = Field(
        description="Close of the as-of session, as traded: what persistence forecasts.",
        examples=[430.47],
    )
    predicted_return: float = Field(
        description="Log return from the last close to the forecast.", examples=[0.0007]
    )
    predicted_price: float = Field(
        description="The forecast, in US dollars and in the shares of the as-of session.",
        examples=[430.77],
    )
    lower_price: float = Field(description="Lower end of the interval.", examples=[416.12])
    upper_price: float = Field(description="Upper end of the interval.", examples=[445.93])
    coverage: float = Field(
        description="Share of outcomes that the interval is meant to hold.", examples=[0.9]
    )
    model_version: int = Field(
        description="Version of the registered model that made it.", examples=[1]
    )
    dataset_run_id: str = Field(
        description="The dataset that the model was trained on.", examples=["20121231_120000"]
    )
    mlflow_run_id: str = Field(
        description="MLflow run that made the model.", examples=["0a1b2c3d4e5f60718293a4b5c6d7e8f9"]
    )
    dagster_run_id: str | None = Field(
        description="Dagster run that made the forecast.",
        examples=["5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"],
    )
    predicted_at: datetime = Field(
        description="When it was made, or made to stand again.",
        examples=["2013-03-01T23:31:02.123456Z"],
    )


class ForecastPage(Page[Forecast]):
    """Forecasts, the newest as-of session first, then by ticker, horizon and version."""


class ForecastsParams(PageParams):
    """Which forecasts."""

    ticker: Tickers = Field(
        [], description="Of these tickers alone; may be repeated.", examples=[["AAPL"]]
    )
    latest: Flag = Field(
        True,
        description="Of each ticker only the forecasts of the newest session among those that "
        "match the other parameters; false gives all of them, of every model version.",
        examples=[True],
    )
    horizon: OptionalParam[Horizon] = Field(None, description="Sessions ahead.", examples=[1])
    model_version: OptionalParam[ModelVersion] = Field(None, description="Made by this version.")
    as_of_from: OptionalParam[Day] = Field(
        None, description="First as-of session.", examples=["2013-01-02"]
    )
    as_of_to: OptionalParam[Day] = Field(
        None, description="Last as-of session.", examples=["2013-03-01"]
    )
    target_from: OptionalParam[Day] = Field(None, description="First target session.")
    target_to: OptionalParam[Day] = Field(None, description="Last target session.")

    def wanted(self) -> WantedForecasts:
        """Give the conditions as the database is asked."""
        return WantedForecasts(
            tickers=self.ticker,
            **self.model_dump(exclude={"ticker", "latest", "limit", "cursor"}),
        )


@router.get("/forecasts", response_model=ForecastPage, summary="List forecasts")
def forecasts(
    request: Request, served: AppStateDependency, asked: Annotated[ForecastsParams, Query()]
) -> Response:
    """Give the newest forecasts of each ticker, or all that were ever made.

    With `as_of_to` and `latest`, it is what stood at the end of that session.
    """
    listed = list_latest_forecasts if asked.latest else list_forecasts

    def make() -> ForecastPage:
        after = asked.position(_POSITION)
        rows = listed(served.engine, asked.wanted(), asked.limit + 1, after)
        return page_of(ForecastPage, rows, asked, FORECAST_ORDER)

    return served.answers.json(request, make)
