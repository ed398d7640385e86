"""Daily bars of a ticker, as traded or adjusted."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from stock_assets.config import Basis
from stock_assets.market.adjustment import adjust
from stock_assets.market.calendar import SPAN
from stock_assets.service.api.params import (
    Day,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    Ticker,
    page_of,
)
from stock_assets.service.app_state import StateDep
from stock_assets.service.problems import NOT_FOUND, unknown_ticker
from stock_assets.storage.prices import read_bars

router = APIRouter(tags=["prices"])

_POSITION: TypeAdapter[tuple[date]] = TypeAdapter(tuple[Day])


class Bar(ResponseModel):
    """The bar of one session."""

    session: date = Field(description="Trading day in New York.", examples=["2013-03-01"])
    open: float = Field(description="First price.", examples=[438.0])
    high: float = Field(description="Highest price.", examples=[438.18])
    low: float = Field(description="Lowest price.", examples=[429.98])
    close: float = Field(description="Last price.", examples=[430.47])
    volume: float = Field(
        description="Shares traded; unless `raw`, in the shares of the last bar.",
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

    ticker: str = Field(description="Symbol on the exchange.", examples=["AAPL"])
    basis: Basis = Field(description="Price basis.")
    as_of_session: date = Field(
        description="Newest stored session of the ticker; its prices are as traded on every basis.",
        examples=["2013-03-01"],
    )


class PricesParams(PageParams):
    """Filter of bars, and their basis."""

    basis: Basis = Field(
        "adjusted",
        description="`raw`: as traded. `split_adjusted`: in the shares of the last bar. "
        "`adjusted`: also adjusted for dividends.",
        examples=["adjusted"],
    )
    session_from: OptionalParam[Day] = Field(
        None, description="First session.", examples=["2012-03-01"]
    )
    session_to: OptionalParam[Day] = Field(
        None, description="Last session.", examples=["2013-03-01"]
    )


@router.get("/prices/{ticker}", summary="List the bars of a ticker", responses=NOT_FOUND)
def prices(ticker: Ticker, state: StateDep, query: Annotated[PricesParams, Query()]) -> PricePage:
    """List daily bars as traded, or adjusted as of the newest session."""
    (before,) = query.position(_POSITION) or (None,)
    bars = read_bars(state.engine, *SPAN, [ticker])
    if bars.empty:
        raise unknown_ticker(state.engine, ticker)
    as_of = bars["session"].iloc[-1].date()
    adjusted = adjust(bars, query.basis, as_of)
    adjusted = adjusted.assign(session=adjusted["session"].dt.date).drop(columns="ticker")
    session = adjusted["session"]
    chosen = session.between(query.session_from or date.min, query.session_to or date.max)
    if before is not None:
        chosen &= session < before
    newest_first = adjusted[chosen].iloc[: -query.limit - 2 : -1]
    rows: list[dict[str, Any]] = newest_first.to_dict("records")  # type: ignore[assignment]
    return page_of(
        PricePage,
        rows,
        query,
        ["session"],
        ticker=ticker,
        basis=query.basis,
        as_of_session=as_of,
    )
