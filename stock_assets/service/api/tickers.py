"""The tickers that there are prices of."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

from stock_assets.service.api.params import Page, PageParams, ResponseModel, Ticker, page_of
from stock_assets.service.app_state import AppStateDependency
from stock_assets.storage.serving.tickers import list_tickers

router = APIRouter(tags=["prices"])

_POSITION: TypeAdapter[tuple[str]] = TypeAdapter(tuple[Ticker])


class StoredTicker(ResponseModel):
    """A ticker, and what is stored of it."""

    ticker: str = Field(description="The exchange's symbol.", examples=["AAPL"])
    in_universe: bool = Field(
        description="Whether `prices.tickers` of params.yaml names it now.", examples=[True]
    )
    currency: str | None = Field(
        description="What its prices are in; null before the first answer of a price source.",
        examples=["USD"],
    )
    source: str | None = Field(
        description="The price source that it first came from.", examples=["sample"]
    )
    first_session: date | None = Field(
        description="Session of its first stored bar; null without one.", examples=["2000-03-01"]
    )
    last_session: date | None = Field(
        description="Session of its last stored bar; null without one.", examples=["2013-03-01"]
    )
    last_close: float | None = Field(
        description="Close of that session, as traded.", examples=[430.47]
    )


class TickerPage(Page[StoredTicker]):
    """Tickers, by name."""


@router.get("/tickers", response_model=TickerPage, summary="List tickers")
def tickers(
    request: Request, served: AppStateDependency, asked: Annotated[PageParams, Query()]
) -> Response:
    """Give every ticker of the universe, and every other that prices were ever asked of."""

    def make() -> TickerPage:
        after = asked.position(_POSITION)
        universe = served.params.prices.tickers
        rows = list_tickers(served.engine, universe, asked.limit + 1, after)
        return page_of(TickerPage, rows, asked, ["ticker"])

    return served.answers.json(request, make)
