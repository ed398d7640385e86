"""How forecasts came out, rolling, beside persistence."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

from stock_assets.service.api.params import (
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
from stock_assets.service.app_state import AppState, AppStateDependency
from stock_assets.storage.serving.performance import (
    WantedScores,
    newest_scored_session,
    rolling_scores,
    ticker_scores,
)

router = APIRouter(tags=["performance"])

_BY_SESSION: TypeAdapter[tuple[date, int]] = TypeAdapter(tuple[Day, ModelVersion])
_BY_TICKER: TypeAdapter[tuple[str, int]] = TypeAdapter(tuple[Ticker, ModelVersion])


class Scores(ResponseModel):
    """Scores of one model version over a window of scored sessions, beside persistence's.

    Persistence is the forecast of no change. Fractions are of 1; null is undefined.
    """

    session: date = Field(description="Last scored session in the window.", examples=["2013-03-01"])
    model_version: int = Field(description="The version whose forecasts count.", examples=[1])
    first_session: date = Field(
        description="First scored session in the window.", examples=["2013-02-01"]
    )
    sessions: int = Field(
        description="Scored sessions in the window; fewer than asked for at the beginning.",
        examples=[20],
    )
    forecasts: int = Field(description="Scored forecasts.", examples=[100])
    mae: float = Field(description="Mean absolute error, in US dollars.", examples=[3.44])
    persistence_mae: float = Field(description="The same of persistence.", examples=[3.43])
    rmse: float = Field(description="Root mean squared error, in US dollars.", examples=[6.89])
    mape: float = Field(
        description="Mean absolute percentage error, a fraction.", examples=[0.0131]
    )
    persistence_mape: float = Field(description="The same of persistence.", examples=[0.0131])
    relative_mae: float | None = Field(
        description="Error relative to the last close over persistence's: below 1 is better than "
        "no change; null when no price moved.",
        examples=[1.0016],
    )
    direction_accuracy: float | None = Field(
        description="Share of forecasts whose move had the sign of the actual one; null when "
        "there was none.",
        examples=[0.5],
    )
    base_rate_up: float | None = Field(
        description="Share of rises among the moves that direction_accuracy counts: "
        "what `always up` would have scored on them.",
        examples=[0.487],
    )
    coverage: float | None = Field(
        description="Share of outcomes inside their intervals.", examples=[0.92]
    )


class ScorePage(Page[Scores]):
    """Scores at each scored session, the newest first, then by version, the newest first."""


class TickerScores(Scores):
    """Scores of one ticker."""

    ticker: str = Field(description="The exchange's symbol.", examples=["AAPL"])


class TickerScorePage(Page[TickerScores]):
    """Scores of each ticker, by name, then by version."""

    end_session: date | None = Field(
        description="The session at which the windows end; null when nothing was scored.",
        examples=["2013-03-01"],
    )


class ScoresParams(PageParams):
    """Which scored forecasts count, and over how many sessions."""

    sessions: WindowLength = Field(
        20,
        description="Scored sessions of a version in a window; `monitoring.window_sessions` of "
        "params.yaml is what retraining looks at.",
        examples=[20],
    )
    ticker: Tickers = Field(
        [], description="Of these tickers alone; may be repeated.", examples=[["AAPL"]]
    )
    horizon: OptionalParam[Horizon] = Field(
        None,
        description="Sessions ahead; all of them together when left out, as monitoring does.",
        examples=[1],
    )
    model_version: OptionalParam[ModelVersion] = Field(None, description="Of this version.")

    def wanted(self) -> WantedScores:
        """Give the conditions as the database is asked."""
        return WantedScores(self.ticker, self.horizon, self.model_version)


class RollingParams(ScoresParams):
    """And at which sessions."""

    session_from: OptionalParam[Day] = Field(
        None, description="First session of a score; its window may begin before."
    )
    session_to: OptionalParam[Day] = Field(None, description="Last session of a score.")


class TickersParams(ScoresParams):
    """And where the windows end."""

    session: OptionalParam[Day] = Field(
        None,
        description="The scored session at which the windows end; the newest when left out.",
    )


@router.get("/performance", response_model=ScorePage, summary="List rolling scores")
def performance(
    request: Request, served: AppStateDependency, asked: Annotated[RollingParams, Query()]
) -> Response:
    """Give the scores of each model version at each session, its tickers together.

    With one `ticker` it is the error history of that ticker.
    """

    def make() -> ScorePage:
        rows = rolling_scores(
            served.engine,
            asked.wanted(),
            asked.sessions,
            asked.session_from,
            asked.session_to,
            asked.limit + 1,
            asked.position(_BY_SESSION),
        )
        return page_of(ScorePage, rows, asked, ["session", "model_version"])

    return served.answers.json(request, make)


@router.get(
    "/performance/tickers", response_model=TickerScorePage, summary="List the scores of each ticker"
)
def ticker_performance(
    request: Request, served: AppStateDependency, asked: Annotated[TickersParams, Query()]
) -> Response:
    """Give the scores of each ticker and model version over one window."""
    return served.answers.json(request, lambda: _of_tickers(served, asked))


def _of_tickers(served: AppState, asked: TickersParams) -> TickerScorePage:
    after, wanted = asked.position(_BY_TICKER), asked.wanted()
    end = asked.session or newest_scored_session(served.engine, wanted)
    rows = (
        []
        if end is None
        else ticker_scores(served.engine, wanted, asked.sessions, end, asked.limit + 1, after)
    )
    return page_of(TickerScorePage, rows, asked, ["ticker", "model_version"], end_session=end)
