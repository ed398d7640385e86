"""Rolling scores of forecasts and of persistence."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.evaluation.forecast_issues import Role
from stock_assets.service.api.params import (
    DatasetId,
    Day,
    Horizon,
    ModelVersion,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    Ticker,
    Tickers,
    WindowLength,
    page_of,
)
from stock_assets.service.app_state import StateDep
from stock_assets.storage.serving.performance import (
    ScoreFilter,
    newest_scored_session,
    rolling_scores,
    ticker_scores,
)

router = APIRouter(tags=["performance"])

_BY_SESSION: TypeAdapter[tuple[date, int, str | None]] = TypeAdapter(
    tuple[Day, ModelVersion, DatasetId | None]
)
_BY_TICKER: TypeAdapter[tuple[str, int, str | None]] = TypeAdapter(
    tuple[Ticker, ModelVersion, DatasetId | None]
)


class Scores(ResponseModel):
    """Scores of a model version over a window of scored sessions.

    Persistence is the forecast of no change. Null is undefined.
    """

    session: date = Field(description="Last scored session in the window.", examples=["2013-03-01"])
    model_version: int = Field(
        description="Version of the forecasts; 0 is persistence.", examples=[1]
    )
    dataset_run_id: str | None = Field(
        description="Dataset that the version was trained on; null for version 0.",
        examples=["20121231_120000"],
    )
    first_session: date = Field(
        description="First scored session in the window.", examples=["2013-02-01"]
    )
    sessions: int = Field(
        description="Scored sessions in the window; fewer at the start of the log.",
        examples=[20],
    )
    forecasts: int = Field(description="Number of scored forecasts.", examples=[100])
    live: int = Field(
        description="How many of them were issued before their target session opened; of each "
        "forecast the first live issue is scored, or else the newest.",
        examples=[100],
    )
    mae: float = Field(description="Mean absolute error in US dollars.", examples=[3.44])
    persistence_mae: float = Field(description="MAE of persistence.", examples=[3.43])
    rmse: float = Field(description="Root mean squared error in US dollars.", examples=[6.89])
    mape: float = Field(
        description="Mean absolute percentage error, a fraction.", examples=[0.0131]
    )
    persistence_mape: float = Field(description="MAPE of persistence.", examples=[0.0131])
    relative_mae: float | None = Field(
        description="Relative MAE: error over that of persistence; below 1 is better than no "
        "change; null when no price moved.",
        examples=[1.0016],
    )
    direction_accuracy: float | None = Field(
        description="Share of forecast moves with the sign of the actual move; null without one.",
        examples=[0.5],
    )
    base_rate_up: float | None = Field(
        description="Share of rises among these moves: the direction accuracy of `always up`.",
        examples=[0.487],
    )
    coverage: float | None = Field(
        description="Share of closes inside their intervals.", examples=[0.92]
    )


class ScorePage(Page[Scores]):
    """Scores at each scored session, the newest session and version first."""


class TickerScores(Scores):
    """Scores of one ticker."""

    ticker: str = Field(description="Symbol on the exchange.", examples=["AAPL"])


class TickerScorePage(Page[TickerScores]):
    """Scores of each ticker, by ticker and version."""

    end_session: date | None = Field(
        description="Last session of the windows; null without scores.",
        examples=["2013-03-01"],
    )


class ScoresParams(PageParams):
    """Filter of scored forecasts, and the length of the window."""

    sessions: WindowLength = Field(
        20,
        description="Scored sessions per window; the pages use `monitoring.window_sessions` of "
        "params.yaml.",
        examples=[20],
    )
    ticker: Tickers = Field(
        [], description="Only these tickers; may be repeated.", examples=[["AAPL"]]
    )
    horizon: OptionalParam[Horizon] = Field(
        None,
        description="Sessions ahead; by default all horizons together, as in monitoring.",
        examples=[1],
    )
    model_version: OptionalParam[ModelVersion] = Field(None, description="Only of this version.")
    role: Role = Field(
        Role.PRODUCTION,
        description="`shadow`: the scores of a candidate beside production.",
        examples=["production"],
    )

    def filter(self) -> ScoreFilter:
        """Return the filter of the database query."""
        return ScoreFilter(self.ticker, self.horizon, self.model_version, role=self.role)


class RollingParams(ScoresParams):
    """Also selects the sessions of the scores."""

    session_from: OptionalParam[Day] = Field(
        None, description="First session of a score; its window may start earlier."
    )
    session_to: OptionalParam[Day] = Field(None, description="Last session of a score.")


class TickersParams(ScoresParams):
    """Also selects the last session of the windows."""

    session: OptionalParam[Day] = Field(
        None,
        description="Last session of the windows; by default the newest scored one.",
    )


@router.get("/performance", summary="List rolling scores")
def performance(state: StateDep, query: Annotated[RollingParams, Query()]) -> ScorePage:
    """List the scores of each model version at each session, all tickers together.

    With one `ticker` it is the error history of that ticker.
    """
    rows = rolling_scores(
        state.engine,
        query.filter(),
        query.sessions,
        query.session_from,
        query.session_to,
        query.limit + 1,
        query.position(_BY_SESSION),
    )
    return page_of(ScorePage, rows, query, ["session", "model_version", "dataset_run_id"])


@router.get("/performance/tickers", summary="List the scores of each ticker")
def ticker_performance(
    state: StateDep, query: Annotated[TickersParams, Query()]
) -> TickerScorePage:
    """List the scores of each ticker and model version over one window."""
    after, chosen = query.position(_BY_TICKER), query.filter()
    end = query.session or newest_scored_session(state.engine, chosen)
    rows = (
        []
        if end is None
        else ticker_scores(state.engine, chosen, query.sessions, end, query.limit + 1, after)
    )
    order = ["ticker", "model_version", "dataset_run_id"]
    return page_of(TickerScorePage, rows, query, order, end_session=end)
