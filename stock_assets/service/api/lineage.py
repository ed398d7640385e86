"""The lineage of a forecast: from the number back to the raw bars."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any

import pandas as pd
from fastapi import APIRouter, Query
from pydantic import Field

from stock_assets.evaluation.forecast_issues import Issued
from stock_assets.market.bars import content_digest
from stock_assets.market.calendar import previous_session, sessions
from stock_assets.service.api.datasets import DatasetDetail, dataset_detail
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
from stock_assets.service.api.persistence import PersistenceRule, describe_rule, recorded_rule
from stock_assets.service.app_state import AppState, QueryParams, StateDep
from stock_assets.service.links import links_for
from stock_assets.service.problems import NOT_FOUND, not_found
from stock_assets.storage.prices import read_bars
from stock_assets.storage.serving.datasets import find_panel
from stock_assets.storage.serving.decisions import find_model, find_promotion
from stock_assets.storage.serving.lineage import (
    Span,
    count_later_changes,
    find_forecast,
    find_outcome,
    list_fetches,
    list_revisions,
)

router = APIRouter(tags=["lineage"])

_RUN = "5f0c1a52-8a4e-4e0b-9d0c-6f3a2b1c0d9e"
_DIGEST = "4d3d9e70cef49bc60d5aec61ae0277072fd86d11ef17368fee78c944c878c7e1"


class Outcome(ResponseModel):
    """The scored forecast, in the shares of the target session."""

    session: date = Field(description="Target session.", examples=["2013-03-04"])
    actual: float = Field(description="Close of the target session.", examples=[420.05])
    predicted: float = Field(description="The forecast.", examples=[430.77])
    persistence: float = Field(description="The forecast of no change.", examples=[430.47])
    lower: float = Field(description="Lower bound of the interval.", examples=[416.12])
    upper: float = Field(description="Upper bound of the interval.", examples=[445.93])
    absolute_error: float = Field(description="Error in US dollars.", examples=[10.72])
    absolute_percentage_error: float = Field(
        description="Error as a fraction of the close.", examples=[0.0255]
    )
    persistence_absolute_error: float = Field(
        description="Error of persistence in US dollars.", examples=[10.42]
    )
    direction_hit: bool | None = Field(
        description="Whether the sign of the move was right; null when either move is zero.",
        examples=[False],
    )
    covered: bool | None = Field(
        description="Whether the close lies in the interval.", examples=[True]
    )
    dagster_run_id: str | None = Field(description="Dagster run of the score.", examples=[_RUN])
    issue: int | None = Field(
        description="Scored issue of the forecast; null where it was not recorded.", examples=[17]
    )
    issued: Issued | None = Field(
        description="Whether that issue was live or backfilled; null where it was not recorded.",
        examples=["live"],
    )


class TrainingWindows(ResponseModel):
    """The windows that the weights were fitted on."""

    first_session: date = Field(
        description="First session of the first window.", examples=["2010-03-23"]
    )
    last_session: date = Field(
        description="Last session of the last window; its labels are of later sessions.",
        examples=["2012-05-23"],
    )
    windows: int = Field(description="Number of windows; each holds every ticker.", examples=[520])


class Fetch(ResponseModel):
    """Bars stored by one run from one source."""

    source: str = Field(description="Price source.", examples=["sample"])
    dagster_run_id: str | None = Field(description="Dagster run.", examples=[_RUN])
    dagster_run_url: str | None = Field(
        description="Address of the run in the Dagster UI; null without its address.",
        examples=[f"http://127.0.0.1:3000/runs/{_RUN}"],
    )
    rows: int = Field(description="Number of bars.", examples=[30])
    first_session: date = Field(description="First session.", examples=["2013-01-16"])
    last_session: date = Field(description="Last session.", examples=["2013-03-01"])
    fetched_at: datetime = Field(
        description="Time of the latest of them.", examples=["2013-03-01T23:30:10.123456Z"]
    )


class Revision(ResponseModel):
    """A later correction of a stored value by its source."""

    session: date = Field(description="Session of the bar.", examples=["2013-02-28"])
    field: str = Field(description="Column.", examples=["close"])
    old_value: float = Field(description="Value before.", examples=[441.4])
    new_value: float = Field(description="Value after.", examples=[441.3])
    revised_at: datetime = Field(
        description="Time of the change.", examples=["2013-03-01T23:30:10.123456Z"]
    )
    dagster_run_id: str | None = Field(description="Dagster run of the change.", examples=[_RUN])


class RawRows(ResponseModel):
    """Stored bars as traded, in their current state."""

    tickers: int = Field(description="Number of tickers with a bar.", examples=[1])
    rows: int = Field(description="Number of bars.", examples=[30])
    digest: str = Field(
        description="SHA-256 of the values, by `stock_assets.market.bars.content_digest`.",
        examples=[_DIGEST],
    )
    stored_later: int = Field(
        description="Bars stored after `predicted_at` of the forecast.", examples=[0]
    )
    revised_later: int = Field(
        description="Bars revised after `predicted_at` of the forecast.", examples=[0]
    )


class TickerWindow(ResponseModel):
    """The bars of a ticker in the window of its forecast.

    Indicators also read the sessions before it, from the first session of the dataset.
    """

    sessions: int = Field(description="Sessions in the window.", examples=[30])
    first_session: date = Field(description="First session.", examples=["2013-01-17"])
    last_session: date = Field(description="The as-of session.", examples=["2013-03-01"])
    ticker_rows: RawRows = Field(description="Bars of the ticker.")
    missing_sessions: list[date] = Field(
        description="Sessions without a bar of the ticker.", examples=[[]]
    )
    fetches: list[Fetch] = Field(description="Sources of the bars of the ticker.")
    revisions: list[Revision] = Field(
        description="Revisions of the bars of the ticker, the oldest first.", examples=[[]]
    )


class Window(TickerWindow):
    """The bars in the window of a forecast.

    Indicators also read the sessions before it, from the first session of the dataset.
    """

    all_rows: RawRows = Field(
        description="Bars of all tickers of the dataset, which the network may combine."
    )


class LineageLinks(ResponseModel):
    """Links to the UIs; null where there is no such page or no address of the UI."""

    forecast_run: str | None = Field(
        description="Dagster run of the forecast.",
        examples=[f"http://127.0.0.1:3000/runs/{_RUN}"],
    )
    forecast_partition: str | None = Field(
        description="Forecasts of the as-of session in Dagster.",
        examples=["http://127.0.0.1:3000/assets/predictions?view=partitions&partition=2013-03-01"],
    )
    prices_partition: str | None = Field(
        description="Prices of the as-of session in Dagster.",
        examples=["http://127.0.0.1:3000/assets/raw_prices?view=partitions&partition=2013-03-01"],
    )
    dataset_partition: str | None = Field(
        description="Panel of the dataset in Dagster.",
        examples=[
            "http://127.0.0.1:3000/assets/processed_features?view=partitions"
            "&partition=20121231_120000"
        ],
    )
    decision_run: str | None = Field(
        description="Dagster run of the promotion decision.",
        examples=[f"http://127.0.0.1:3000/runs/{_RUN}"],
    )
    mlflow_run: str | None = Field(
        description="MLflow run of the model.",
        examples=["http://127.0.0.1:5000/#/runs/0a1b2c3d4e5f60718293a4b5c6d7e8f9"],
    )
    mlflow_model: str | None = Field(
        description="Model version in MLflow.",
        examples=["http://127.0.0.1:5000/#/models/StockPricePredictor/versions/1"],
    )


class TickerLineage(ResponseModel):
    """A forecast, its outcome and its origin, without the bars of other tickers."""

    forecast: Forecast = Field(description="The forecast.")
    outcome: Outcome | None = Field(description="Null until the forecast is scored.")
    model: Model | None = Field(
        description="Version that made the forecast; null without a promotion decision."
    )
    decision: Promotion | None = Field(description="Promotion decision on the version.")
    dataset: DatasetDetail | None = Field(
        description="Dataset that the version was trained on; null if it was deleted."
    )
    rule: PersistenceRule | None = Field(
        description="Rule and settings of version 0, persistence, which has no model, decision and "
        "dataset; otherwise null."
    )
    training: TrainingWindows | None = Field(
        description="Windows that the weights were fitted on, of a refit those of all segments; "
        "null without a dataset."
    )
    window: TickerWindow | None = Field(
        description="Bars in the window of the forecast; null without a dataset."
    )
    links: LineageLinks = Field(description="Links to the UIs.")
    proof_command: str = Field(
        description="Command that computes the forecast again from its rows and compares it.",
        examples=["stock-assets prove 2013-03-01/AAPL/1"],
    )


class ForecastLineage(TickerLineage):
    """A forecast, its outcome and its origin."""

    window: Window | None = Field(
        description="Bars in the window of the forecast; null without a dataset."
    )


class LineageParams(QueryParams):
    """Selects one of the forecasts of a ticker as of a session."""

    horizon: Horizon = Field(1, description="Sessions ahead.", examples=[1])
    model_version: OptionalParam[ModelVersion] = Field(
        None, description="Version of the model; by default that of the latest forecast."
    )


@router.get(
    "/lineage/forecast/{as_of_session}/{ticker}",
    summary="Show the lineage of a forecast",
    responses=NOT_FOUND,
)
def lineage(
    as_of_session: Day,
    ticker: Ticker,
    state: StateDep,
    query: Annotated[LineageParams, Query()],
) -> ForecastLineage:
    """Trace a forecast to its model version, dataset, training sessions and raw bars."""
    forecast = find_forecast(
        state.engine, as_of_session, ticker, query.horizon, query.model_version
    )
    if forecast is None:
        raise not_found(f"there is no such forecast of {ticker} as of {as_of_session}")
    return forecast_lineage(state, forecast)


def forecast_lineage(state: AppState, forecast: Mapping[str, Any]) -> ForecastLineage:
    """Trace a row of ``predictions`` to its origin."""
    own = ticker_lineage(state, forecast)
    rule = recorded_rule(state.engine, forecast)
    tickers = own.dataset.tickers if own.dataset else rule.tickers if rule else ()
    if own.window is None:
        return ForecastLineage.model_validate({**dict(own), "window": None})
    names = sorted({*tickers, forecast["ticker"]})
    days = own.window.first_session, own.window.last_session
    bars = read_bars(state.engine, *days, names)
    all_rows = _raw_rows(state, bars, names, days, forecast)
    window = Window.model_validate({**dict(own.window), "all_rows": all_rows})
    return ForecastLineage.model_validate({**dict(own), "window": window})


def ticker_lineage(state: AppState, forecast: Mapping[str, Any]) -> TickerLineage:
    """Trace a row of ``predictions`` to its origin, without the bars of other tickers."""
    engine, version = state.engine, forecast["model_version"]
    model = find_model(engine, state.model_name, version, forecast["dataset_run_id"])
    decision = None if model is None else find_promotion(engine, model)
    rule = recorded_rule(engine, forecast)
    panel = None if rule else find_panel(engine, forecast["dataset_run_id"])
    dataset = None if panel is None else dataset_detail(engine, state.model_name, panel)
    refit = model is not None and model["refit_of"] is not None
    length = rule.sessions if rule else _window_length(dataset) if dataset else None
    return TickerLineage.model_validate(
        {
            "forecast": forecast,
            "outcome": find_outcome(engine, forecast),
            "model": model,
            "decision": None if decision is None else as_promotion(decision),
            "dataset": dataset,
            "rule": None if rule is None else describe_rule(rule),
            "training": None if dataset is None else _training_windows(dataset, refit),
            "window": None if length is None else _window(state, forecast, length),
            "links": _links(state, forecast, decision),
            "proof_command": _proof_command(forecast),
        }
    )


def _proof_command(forecast: Mapping[str, Any]) -> str:
    session, ticker, horizon = (forecast[n] for n in ("as_of_session", "ticker", "horizon"))
    return f"stock-assets prove {shlex.quote(f'{session}/{ticker}/{horizon}')}"


def _training_windows(dataset: DatasetDetail, refit: bool) -> TrainingWindows | None:
    """Return the windows of the training segment, for a refit those of all segments."""
    if not dataset.segments:
        return None
    first, last = dataset.segments[0], dataset.segments[-1 if refit else 0]
    return TrainingWindows(
        first_session=_sessions_to(first.first_session, _window_length(dataset))[0],
        last_session=last.last_session,
        windows=last.last_position - first.first_position + 1,
    )


def _window_length(dataset: DatasetDetail) -> int:
    length: int = dataset.params["dataset"]["window"]
    return length


def _sessions_to(last: date, count: int) -> list[date]:
    """Return the `count` sessions up to `last`."""
    return sessions(previous_session(last, count - 1) if count > 1 else last, last)


def _window(state: AppState, forecast: Mapping[str, Any], length: int) -> TickerWindow:
    days = _sessions_to(forecast["as_of_session"], length)
    span = Span(forecast["ticker"], days[0], days[-1])
    bars = read_bars(state.engine, span.first, span.last, [span.ticker])
    known = set(bars["session"].dt.date)
    links = links_for(state)
    return TickerWindow.model_validate(
        {
            "sessions": len(days),
            "first_session": span.first,
            "last_session": span.last,
            "ticker_rows": _raw_rows(state, bars, [span.ticker], (span.first, span.last), forecast),
            "missing_sessions": [day for day in days if day not in known],
            "fetches": [
                {**row, "dagster_run_url": links.dagster_run(row["dagster_run_id"])}
                for row in list_fetches(state.engine, span)
            ],
            "revisions": list_revisions(state.engine, span),
        }
    )


def _raw_rows(
    state: AppState,
    bars: pd.DataFrame,
    tickers: Sequence[str],
    days: tuple[date, date],
    forecast: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "tickers": bars["ticker"].nunique(),
        "rows": len(bars),
        "digest": content_digest(bars),
        **count_later_changes(state.engine, tickers, days, forecast["predicted_at"]),
    }


def _links(
    state: AppState, forecast: Mapping[str, Any], decision: Mapping[str, Any] | None
) -> dict[str, str | None]:
    links, day = links_for(state), f"{forecast['as_of_session']}"
    decision_run = None if decision is None else decision["dagster_run_id"]
    return {
        "forecast_run": links.dagster_run(forecast["dagster_run_id"]),
        "forecast_partition": links.asset("predictions", day),
        "prices_partition": links.asset("raw_prices", day),
        "dataset_partition": links.asset("processed_features", forecast["dataset_run_id"]),
        "decision_run": links.dagster_run(decision_run),
        "mlflow_run": links.mlflow_run(forecast["mlflow_run_id"]),
        "mlflow_model": links.model(forecast["model_version"]),
    }
