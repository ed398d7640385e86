"""The lineage of one number: from a forecast back to the rows that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any

import pandas as pd
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from stock_assets.market.bars import content_digest
from stock_assets.market.calendar import previous_session, sessions
from stock_assets.service.api.datasets import DatasetDetail, detail_of
from stock_assets.service.api.decisions import Promotion, as_promotion
from stock_assets.service.api.forecasts import Forecast
from stock_assets.service.api.models import Model
from stock_assets.service.api.params import (
    Day,
    Horizon,
    ModelVersion,
    OptionalParam,
    ResponseModel,
    Ticker,
)
from stock_assets.service.app_state import AppState, AppStateDependency, QueryParams
from stock_assets.service.links import links_of
from stock_assets.service.problems import not_found, tells
from stock_assets.storage.prices import read_bars
from stock_assets.storage.serving.datasets import find_panel
from stock_assets.storage.serving.decisions import find_model, find_promotion
from stock_assets.storage.serving.lineage import (
    Span,
    changed_since,
    fetches,
    find_forecast,
    find_outcome,
    revisions,
)

router = APIRouter(tags=["lineage"])

_RUN = "5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"
_DIGEST = "4d3d9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"


class Outcome(ResponseModel):
    """How a forecast came out, on the basis of the target session."""

    session: date = Field(description="The target session.", examples=["2013-03-04"])
    actual: float = Field(description="Its close.", examples=[420.05])
    predicted: float = Field(
        description="The forecast in the shares of the target session.", examples=[430.77]
    )
    persistence: float = Field(description="The last close before, likewise.", examples=[430.47])
    lower: float = Field(description="Lower end of the interval, likewise.", examples=[416.12])
    upper: float = Field(description="Upper end of the interval, likewise.", examples=[445.93])
    absolute_error: float = Field(description="Error, in US dollars.", examples=[10.72])
    absolute_percentage_error: float = Field(
        description="Error as a fraction of the close.", examples=[0.0255]
    )
    persistence_absolute_error: float = Field(
        description="Error of the forecast of no change.", examples=[10.42]
    )
    direction_hit: bool | None = Field(
        description="Whether the sign of the move was right; null when either move is zero.",
        examples=[False],
    )
    covered: bool | None = Field(
        description="Whether the interval held the close.", examples=[True]
    )
    dagster_run_id: str | None = Field(description="Dagster run that scored it.", examples=[_RUN])


class Learned(ResponseModel):
    """The windows that the weights were fitted to."""

    first_session: date = Field(
        description="First session of the first window.", examples=["2010-03-23"]
    )
    last_session: date = Field(
        description="Last session of the last window; its label is of the sessions after it.",
        examples=["2012-05-23"],
    )
    windows: int = Field(
        description="Sessions that a window ends at; each holds every ticker.", examples=[520]
    )


class Fetched(ResponseModel):
    """Rows that one run brought from one source."""

    source: str = Field(description="The price source.", examples=["sample"])
    dagster_run_id: str | None = Field(description="The Dagster run.", examples=[_RUN])
    dagster_run_url: str | None = Field(
        description="Its page in the Dagster UI; null where its address is not known.",
        examples=[f"http://127.0.0.1:3000/runs/{_RUN}"],
    )
    rows: int = Field(description="Number of rows.", examples=[30])
    first_session: date = Field(description="Session of the first one.", examples=["2013-01-16"])
    last_session: date = Field(description="Session of the last one.", examples=["2013-03-01"])
    fetched_at: datetime = Field(
        description="When the newest of them was stored.", examples=["2013-03-01T23:30:10.123456Z"]
    )


class Revision(ResponseModel):
    """A value of a stored row that a source changed later."""

    session: date = Field(description="Session of the row.", examples=["2013-02-28"])
    field: str = Field(description="The column.", examples=["close"])
    old_value: float = Field(description="What it was.", examples=[441.4])
    new_value: float = Field(description="What it is since.", examples=[441.3])
    revised_at: datetime = Field(
        description="When it changed.", examples=["2013-03-01T23:30:10.123456Z"]
    )
    dagster_run_id: str | None = Field(description="Dagster run that changed it.", examples=[_RUN])


class RawRows(ResponseModel):
    """Stored rows, as traded, as they are now."""

    tickers: int = Field(description="Tickers that have one.", examples=[1])
    rows: int = Field(description="Number of rows.", examples=[30])
    digest: str = Field(
        description="SHA-256 of their values, as "
        "`stock_assets.market.bars.content_digest` computes it.",
        examples=[_DIGEST],
    )
    stored_later: int = Field(
        description="Rows that were not there yet at `predicted_at` of the forecast.", examples=[0]
    )
    revised_later: int = Field(
        description="Rows that were changed after `predicted_at` of the forecast.", examples=[0]
    )


class OwnWindow(ResponseModel):
    """The rows of one ticker below the sessions that the network looked at.

    Indicators also read their warm-up before it, from the first session of the dataset on.
    """

    sessions: int = Field(description="Sessions in the window.", examples=[30])
    first_session: date = Field(description="The first one.", examples=["2013-01-17"])
    last_session: date = Field(description="The as-of session.", examples=["2013-03-01"])
    own: RawRows = Field(description="Rows of the ticker itself.")
    missing_sessions: list[date] = Field(
        description="Sessions of which the ticker has no row.", examples=[[]]
    )
    fetched: list[Fetched] = Field(description="Where the ticker's rows came from.")
    revisions: list[Revision] = Field(
        description="Changes that were made to the ticker's rows, in their order.", examples=[[]]
    )


class Window(OwnWindow):
    """The rows below the sessions that the network looked at.

    Indicators also read their warm-up before it, from the first session of the dataset on.
    """

    everyone: RawRows = Field(
        description="Rows of all tickers of the dataset: the network may look across them."
    )


class LineageLinks(ResponseModel):
    """Where to look further; null where there is nothing, or no address of the UI is known."""

    forecast_run: str | None = Field(
        description="Dagster run that made the forecast.",
        examples=[f"http://127.0.0.1:3000/runs/{_RUN}"],
    )
    forecast_partition: str | None = Field(
        description="The forecasts of the as-of session in Dagster.",
        examples=["http://127.0.0.1:3000/assets/predictions?view=partitions&partition=2013-03-01"],
    )
    prices_partition: str | None = Field(
        description="The prices of the as-of session in Dagster.",
        examples=["http://127.0.0.1:3000/assets/raw_prices?view=partitions&partition=2013-03-01"],
    )
    dataset_partition: str | None = Field(
        description="The panel of the dataset in Dagster.",
        examples=[
            "http://127.0.0.1:3000/assets/processed_features?view=partitions"
            "&partition=20121231_120000"
        ],
    )
    decision_run: str | None = Field(
        description="Dagster run that decided about the model.",
        examples=[f"http://127.0.0.1:3000/runs/{_RUN}"],
    )
    mlflow_run: str | None = Field(
        description="MLflow run that made the model.",
        examples=["http://127.0.0.1:5000/#/runs/0a1b2c3d4e5f60718293a4b5c6d7e8f9"],
    )
    mlflow_model: str | None = Field(
        description="The model version in MLflow.",
        examples=["http://127.0.0.1:5000/#/models/StockPricePredictor/versions/1"],
    )


class OwnLineage(ResponseModel):
    """A forecast, how it came out, and what of its own it was made from."""

    forecast: Forecast = Field(description="The number.")
    outcome: Outcome | None = Field(description="Null as long as it has not been scored.")
    model: Model | None = Field(
        description="The version that made it; null where no decision names it."
    )
    decision: Promotion | None = Field(description="The decision about that version.")
    dataset: DatasetDetail | None = Field(
        description="The dataset that the version was trained on; null where it is gone."
    )
    learned: Learned | None = Field(
        description="The windows that its weights were fitted to: of a refit, those of all three "
        "segments; null without a dataset."
    )
    window: OwnWindow | None = Field(
        description="The raw rows of the forecast itself; null without a dataset."
    )
    links: LineageLinks = Field(description="Where to look further.")


class ForecastLineage(OwnLineage):
    """A forecast, how it came out, and all that it was made from."""

    window: Window | None = Field(
        description="The raw rows of the forecast itself; null without a dataset."
    )


class LineageParams(QueryParams):
    """Which of the forecasts made of a ticker at the end of a session."""

    horizon: Horizon = Field(1, description="Sessions ahead.", examples=[1])
    model_version: OptionalParam[ModelVersion] = Field(
        None, description="Made by this version; the last one made when left out."
    )


@router.get(
    "/lineage/forecast/{as_of_session}/{ticker}",
    response_model=ForecastLineage,
    summary="Show the lineage of a forecast",
    responses=tells(404),
)
def lineage(
    as_of_session: Day,
    ticker: Ticker,
    request: Request,
    served: AppStateDependency,
    asked: Annotated[LineageParams, Query()],
) -> Response:
    """Follow one forecast back to its model version, dataset, training sessions and raw rows."""

    def make() -> ForecastLineage:
        forecast = find_forecast(
            served.engine, as_of_session, ticker, asked.horizon, asked.model_version
        )
        if forecast is None:
            raise not_found(f"there is no such forecast of {ticker} as of {as_of_session}")
        return lineage_of(served, forecast)

    return served.answers.json(request, make)


def lineage_of(served: AppState, forecast: Mapping[str, Any]) -> ForecastLineage:
    """Follow a row of ``predictions`` back to all that it was made from."""
    own = own_lineage_of(served, forecast)
    if own.dataset is None or own.window is None:
        return ForecastLineage.model_validate({**dict(own), "window": None})
    names = sorted({*own.dataset.tickers, forecast["ticker"]})
    days = own.window.first_session, own.window.last_session
    bars = read_bars(served.engine, *days, names)
    everyone = _raw(served, bars, names, days, forecast)
    window = Window.model_validate({**dict(own.window), "everyone": everyone})
    return ForecastLineage.model_validate({**dict(own), "window": window})


def own_lineage_of(served: AppState, forecast: Mapping[str, Any]) -> OwnLineage:
    """Follow a row of ``predictions`` back, past the rows of other tickers."""
    engine, version = served.engine, forecast["model_version"]
    model, decision = find_model(engine, version), find_promotion(engine, version)
    panel = find_panel(engine, forecast["dataset_run_id"])
    dataset = None if panel is None else detail_of(engine, panel)
    refit = model is not None and model["refit_of"] is not None
    return OwnLineage.model_validate(
        {
            "forecast": forecast,
            "outcome": find_outcome(engine, forecast),
            "model": model,
            "decision": None if decision is None else as_promotion(decision),
            "dataset": dataset,
            "learned": None if dataset is None else _learned(dataset, refit),
            "window": None if dataset is None else _window(served, forecast, dataset),
            "links": _links(served, forecast, decision),
        }
    )


def _learned(dataset: DatasetDetail, refit: bool) -> Learned | None:
    """Tell which windows a version learned from; a refit learned from those of every segment."""
    if not dataset.segments:
        return None
    first, last = dataset.segments[0], dataset.segments[-1 if refit else 0]
    return Learned(
        first_session=_sessions_to(first.first_session, _window_length(dataset))[0],
        last_session=last.last_session,
        windows=last.last_position - first.first_position + 1,
    )


def _window_length(dataset: DatasetDetail) -> int:
    length: int = dataset.params["dataset"]["window"]
    return length


def _sessions_to(last: date, count: int) -> list[date]:
    """Give the `count` sessions that end with `last`."""
    return sessions(previous_session(last, count - 1) if count > 1 else last, last)


def _window(served: AppState, forecast: Mapping[str, Any], dataset: DatasetDetail) -> OwnWindow:
    days = _sessions_to(forecast["as_of_session"], _window_length(dataset))
    span = Span(forecast["ticker"], days[0], days[-1])
    bars = read_bars(served.engine, span.first, span.last, [span.ticker])
    known = set(bars["session"].dt.date)
    return OwnWindow.model_validate(
        {
            "sessions": len(days),
            "first_session": span.first,
            "last_session": span.last,
            "own": _raw(served, bars, [span.ticker], (span.first, span.last), forecast),
            "missing_sessions": [day for day in days if day not in known],
            "fetched": _fetched(served, span),
            "revisions": revisions(served.engine, span),
        }
    )


def _raw(
    served: AppState,
    bars: pd.DataFrame,
    tickers: Sequence[str],
    days: tuple[date, date],
    forecast: Mapping[str, Any],
) -> dict[str, Any]:
    later = changed_since(served.engine, tickers, days, forecast["predicted_at"])
    told = {"tickers": bars["ticker"].nunique(), "rows": len(bars), "digest": content_digest(bars)}
    return {**told, **later}


def _fetched(served: AppState, span: Span) -> list[dict[str, Any]]:
    links = links_of(served)
    return [
        {**row, "dagster_run_url": links.dagster_run(row["dagster_run_id"])}
        for row in fetches(served.engine, span)
    ]


def _links(
    served: AppState, forecast: Mapping[str, Any], decision: Mapping[str, Any] | None
) -> dict[str, str | None]:
    links, day = links_of(served), f"{forecast['as_of_session']}"
    decided_by = None if decision is None else decision["dagster_run_id"]
    return {
        "forecast_run": links.dagster_run(forecast["dagster_run_id"]),
        "forecast_partition": links.asset("predictions", day),
        "prices_partition": links.asset("raw_prices", day),
        "dataset_partition": links.asset("processed_features", forecast["dataset_run_id"]),
        "decision_run": links.dagster_run(decided_by),
        "mlflow_run": links.mlflow_run(forecast["mlflow_run_id"]),
        "mlflow_model": links.model(forecast["model_version"]),
    }
