"""Daily bars of one ticker, as they traded or adjusted."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

from stock_assets.config import Basis
from stock_assets.market.adjustment import adjust
from stock_assets.market.calendar import HORIZON
from stock_assets.service.api.params import (
    Day,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    Ticker,
    page_of,
)
from stock_assets.service.app_state import AppState, AppStateDependency
from stock_assets.service.errors import no_such_ticker
from stock_assets.service.problems import tells
from stock_assets.storage.prices import read_bars

router = APIRouter(tags=["prices"])

_POSITION: TypeAdapter[tuple[date]] = TypeAdapter(tuple[Day])


class Bar(ResponseModel):
    """One session's trading."""

    session: date = Field(description="The trading day in New York.", examples=["2013-03-01"])
    open: float = Field(description="First price.", examples=[438.0])
    high: float = Field(description="Highest price.", examples=[438.18])
    low: float = Field(description="Lowest price.", examples=[429.98])
    close: float = Field(description="Last price.", examples=[430.47])
    volume: float = Field(
        description="Shares traded, on a basis other than raw in the shares of the last bar.",
        examples=[19733100.0],
    )
    dividends: float = Field(
        description="Cash per share with this ex-date; 0 for none.", examples=[0.0]
    )
    stock_splits: float = Field(
        description="New shares per old one from this day on; 0 for none.", examples=[0.0]
    )


class PricePage(Page[Bar]):
    """Bars of a ticker, the newest session first."""

    ticker: str = Field(description="The exchange's symbol.", examples=["AAPL"])
    basis: Basis = Field(description="Which events are taken out of the prices.")
    as_of_session: date = Field(
        description="The session from which the prices are seen: the last stored one of the "
        "ticker, whose own prices are as traded on every basis.",
        examples=["2013-03-01"],
    )


class PricesParams(PageParams):
    """Which bars, and how."""

    basis: Basis = Field(
        "adjusted",
        description="`raw`: as traded. `split_adjusted`: in the shares of the last bar. "
        "`adjusted`: dividends taken out as well.",
        examples=["adjusted"],
    )
    session_from: OptionalParam[Day] = Field(
        None, description="First session.", examples=["2012-03-01"]
    )
    session_to: OptionalParam[Day] = Field(
        None, description="Last session.", examples=["2013-03-01"]
    )


@router.get(
    "/prices/{ticker}",
    response_model=PricePage,
    summary="List the bars of a ticker",
    responses=tells(404),
)
def prices(
    ticker: Ticker,
    request: Request,
    served: AppStateDependency,
    asked: Annotated[PricesParams, Query()],
) -> Response:
    """Give daily bars as they traded, or adjusted as seen from the newest session."""
    return served.answers.json(request, lambda: _page(served, ticker, asked))


def _page(served: AppState, ticker: str, asked: PricesParams) -> PricePage:
    (before,) = asked.position(_POSITION) or (None,)
    bars = read_bars(served.engine, *HORIZON, [ticker])
    if bars.empty:
        raise no_such_ticker(served, ticker)
    as_of = bars["session"].iloc[-1].date()
    seen = adjust(bars, asked.basis, as_of)
    seen = seen.assign(session=seen["session"].dt.date).drop(columns="ticker")
    wanted = seen["session"].between(asked.session_from or date.min, asked.session_to or date.max)
    if before is not None:
        wanted &= seen["session"] < before
    newest_first = seen[wanted].iloc[: -asked.limit - 2 : -1]
    rows: list[dict[str, Any]] = newest_first.to_dict("records")  # type: ignore[assignment]
    return page_of(
        PricePage,
        rows,
        asked,
        ["session"],
        ticker=ticker,
        basis=asked.basis,
        as_of_session=as_of,
    )
