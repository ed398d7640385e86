"""The endpoints of the former system, with the same fields."""

from __future__ import annotations

from datetime import date
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from stock_assets.market.adjustment import adjust
from stock_assets.service.api.params import Ticker
from stock_assets.service.app_state import NO_PARAMS, StateDep
from stock_assets.service.problems import NOT_FOUND, unknown_ticker
from stock_assets.storage.serving.legacy import (
    is_known,
    known_tickers,
    newest_bars,
    next_session_forecasts,
)

router = APIRouter(tags=["former endpoints"], dependencies=NO_PARAMS)

_BARS = 14


class _Success(BaseModel):
    status: Literal["success"] = "success"


class TableRow(BaseModel):
    """The newest forecast of one ticker, one session ahead; persistence has no MLflow run."""

    ticker: str
    predicted_price: float
    date: date
    model_mlflow_run_id: str | None


class LatestForTable(_Success):
    """The newest forecast of each ticker, one session ahead."""

    data: list[TableRow]


class Tickers(_Success):
    """Every ticker that prices were fetched for."""

    tickers: list[str]


class HistoricalContext(_Success):
    """The newest forecast of a ticker and the closes before it, in the shares of the last one."""

    ticker: str
    historical_dates: list[date]
    historical_actuals: list[float]
    prediction_reference_date: date | None
    predicted_price_for_ref_date: float | None


@router.get("/predictions/latest_for_table")
def latest_for_table(state: StateDep) -> LatestForTable:
    """List the newest forecast of each ticker, one session ahead."""
    return LatestForTable(
        data=[
            TableRow(
                ticker=row["ticker"],
                predicted_price=row["predicted_price"],
                date=row["target_session"],
                model_mlflow_run_id=row["mlflow_run_id"],
            )
            for row in next_session_forecasts(state.engine)
        ]
    )


@router.get("/tickers")
def tickers(state: StateDep) -> Tickers:
    """List every ticker that prices were fetched for."""
    return Tickers(tickers=known_tickers(state.engine))


@router.get("/historical_context_chart/{ticker}", responses=NOT_FOUND)
def historical_context_chart(state: StateDep, ticker: Ticker) -> HistoricalContext:
    """Show the newest forecast of a ticker and the 14 closes before it."""
    if not is_known(state.engine, ticker):
        raise unknown_ticker(state.engine, ticker)
    forecast = next(iter(next_session_forecasts(state.engine, ticker)), None)
    as_of = None if forecast is None else forecast["as_of_session"]
    bars = newest_bars(state.engine, ticker, _BARS, as_of)
    if not bars.empty:
        bars = adjust(bars, "split_adjusted", bars["session"].max().date())
    return HistoricalContext(
        ticker=ticker,
        historical_dates=bars["session"].dt.date.tolist(),
        historical_actuals=bars["close"].tolist(),
        prediction_reference_date=None if forecast is None else forecast["target_session"],
        predicted_price_for_ref_date=None if forecast is None else forecast["predicted_price"],
    )
