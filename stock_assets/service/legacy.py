"""The endpoints of the former system, with its fields, for those who still read them."""

from __future__ import annotations

from datetime import date
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from stock_assets.market.adjustment import adjust
from stock_assets.service.api.params import Ticker
from stock_assets.service.app_state import TAKES_NOTHING, AppState, AppStateDependency
from stock_assets.service.errors import no_such_ticker
from stock_assets.service.problems import tells
from stock_assets.storage.serving.legacy import (
    is_known,
    known_tickers,
    newest_bars,
    next_session_forecasts,
)

router = APIRouter(tags=["former endpoints"], dependencies=TAKES_NOTHING)

_BARS_SHOWN = 14


class _Answer(BaseModel):
    status: Literal["success"] = "success"


class TableRow(BaseModel):
    """The forecast of one ticker for the session after its as-of session."""

    ticker: str
    predicted_price: float
    date: date
    model_mlflow_run_id: str


class LatestForTable(_Answer):
    """The newest forecast of every ticker, one session ahead."""

    data: list[TableRow]


class Tickers(_Answer):
    """Every ticker that prices were ever fetched of."""

    tickers: list[str]


class HistoricalContext(_Answer):
    """The closes that led up to a ticker's newest forecast, and the forecast.

    Closes and forecast are in the shares of the last session shown.
    """

    ticker: str
    historical_dates: list[date]
    historical_actuals: list[float]
    prediction_reference_date: date | None
    predicted_price_for_ref_date: float | None


@router.get("/predictions/latest_for_table", response_model=LatestForTable)
def latest_for_table(request: Request, served: AppStateDependency) -> Response:
    """List the newest forecast of every ticker, one session ahead."""
    return served.answers.json(request, lambda: _latest_for_table(served))


@router.get("/tickers", response_model=Tickers)
def tickers(request: Request, served: AppStateDependency) -> Response:
    """List every ticker that prices were ever fetched of."""
    return served.answers.json(request, lambda: Tickers(tickers=known_tickers(served.engine)))


@router.get(
    "/historical_context_chart/{ticker}", response_model=HistoricalContext, responses=tells(404)
)
def historical_context_chart(
    request: Request, served: AppStateDependency, ticker: Ticker
) -> Response:
    """Give the newest forecast of a ticker and the closes of the 14 sessions before it."""
    return served.answers.json(request, lambda: _historical_context(served, ticker))


def _latest_for_table(served: AppState) -> LatestForTable:
    return LatestForTable(
        data=[
            TableRow(
                ticker=row["ticker"],
                predicted_price=row["predicted_price"],
                date=row["target_session"],
                model_mlflow_run_id=row["mlflow_run_id"],
            )
            for row in next_session_forecasts(served.engine)
        ]
    )


def _historical_context(served: AppState, ticker: str) -> HistoricalContext:
    if not is_known(served.engine, ticker):
        raise no_such_ticker(served, ticker)
    forecast = next(iter(next_session_forecasts(served.engine, ticker)), None)
    as_of = None if forecast is None else forecast["as_of_session"]
    bars = newest_bars(served.engine, ticker, _BARS_SHOWN, as_of)
    if not bars.empty:
        bars = adjust(bars, "split_adjusted", bars["session"].max().date())
    return HistoricalContext(
        ticker=ticker,
        historical_dates=bars["session"].dt.date.tolist(),
        historical_actuals=bars["close"].tolist(),
        prediction_reference_date=None if forecast is None else forecast["target_session"],
        predicted_price_for_ref_date=None if forecast is None else forecast["predicted_price"],
    )
