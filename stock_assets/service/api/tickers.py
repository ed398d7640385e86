"""Tickers and their stored prices."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.service.api.params import Page, PageParams, ResponseModel, Ticker, page_of
from stock_assets.service.app_state import StateDep
from stock_assets.storage.serving.tickers import list_tickers

router = APIRouter(tags=["prices"])

_POSITION: TypeAdapter[tuple[str]] = TypeAdapter(tuple[Ticker])


class StoredTicker(ResponseModel):
    """A ticker and its stored prices."""

    ticker: str = Field(description="Symbol on the exchange.", examples=["AAPL"])
    in_universe: bool = Field(
        description="Whether `prices.tickers` of params.yaml lists it.", examples=[True]
    )
    currency: str | None = Field(
        description="Currency of its prices; null before the first fetch.",
        examples=["USD"],
    )
    source: str | None = Field(
        description="Price source of the first fetch; null before it.", examples=["sample"]
    )
    first_session: date | None = Field(
        description="Session of the first stored bar; null without one.", examples=["2000-03-01"]
    )
    last_session: date | None = Field(
        description="Session of the last stored bar; null without one.", examples=["2013-03-01"]
    )
    last_close: float | None = Field(
        description="Close of the last session, as traded.", examples=[430.47]
    )


class TickerPage(Page[StoredTicker]):
    """Tickers, by name."""


@router.get("/tickers", summary="List tickers")
def tickers(state: StateDep, query: Annotated[PageParams, Query()]) -> TickerPage:
    """List the tickers of the universe and all others ever fetched."""
    after, universe = query.position(_POSITION), state.params.prices.tickers
    rows = list_tickers(state.engine, universe, query.limit + 1, after)
    return page_of(TickerPage, rows, query, ["ticker"])
