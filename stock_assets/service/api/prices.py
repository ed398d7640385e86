"""Daily bars of a ticker, as traded or adjusted."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter
from sqlalchemy import Engine
from starlette.exceptions import HTTPException

from stock_assets.config import Basis
from stock_assets.service.api.params import (
    Day,
    LinkNumber,
    Moment,
    OptionalParam,
    Page,
    PageParams,
    ResponseModel,
    Ticker,
    invalid_cursor,
    page_of,
)
from stock_assets.service.app_state import StateDep
from stock_assets.service.problems import NOT_FOUND, not_found, unknown_ticker
from stock_assets.storage.known_prices import read_currency, read_ticker
from stock_assets.storage.record import Link, UnknownMomentError, find_link, head, link_at

router = APIRouter(tags=["prices"])

_POSITION: TypeAdapter[tuple[date, int]] = TypeAdapter(tuple[Day, LinkNumber])


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
    known_since: datetime = Field(
        description="Since when its prices and volume, as traded, were known, from any source "
        "and under any name; for bars stored before there was a record, when that began.",
        examples=["2013-03-01T23:30:10.123456Z"],
    )
    actions_known_since: datetime | None = Field(
        description="Since when its dividends and splits were known, the newest of them; null for "
        "none.",
        examples=[None],
    )


class PricePage(Page[Bar]):
    """Bars of a ticker, the newest session first."""

    ticker: str = Field(description="Symbol on the exchange.", examples=["AAPL"])
    basis: Basis = Field(description="Price basis.")
    currency: str | None = Field(
        description="Currency of its prices; null where none was known.", examples=["USD"]
    )
    currency_known_since: datetime | None = Field(
        description="Since when the currency was known.",
        examples=["2013-03-01T23:30:10.123456Z"],
    )
    as_of_session: date = Field(
        description="Newest session of the ticker that was known; its prices are as traded on "
        "every basis.",
        examples=["2013-03-01"],
    )
    known_at: datetime = Field(
        description="Time of the newest change that was known; as a parameter it gives "
        "the same answer whatever is revised later.",
        examples=["2013-03-01T23:30:10.123456Z"],
    )
    link: int = Field(description="Number of that change in the record.", examples=[66])


class PricesParams(PageParams):
    """Filter of bars, their basis, and the moment at which they were known."""

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
    as_of: OptionalParam[Day] = Field(
        None,
        description="Bars up to this day, adjusted as of the last of them.",
        examples=["2013-03-01"],
    )
    known_at: OptionalParam[Moment] = Field(
        None,
        description="What was known at this moment, with its time zone; by default what is known "
        "now. Outside the record: 404.",
        examples=["2026-11-30T21:00:00Z"],
    )


@router.get("/prices/{ticker}", summary="List the bars of a ticker", responses=NOT_FOUND)
def prices(ticker: Ticker, state: StateDep, query: Annotated[PricesParams, Query()]) -> PricePage:
    """List daily bars as traded, or adjusted as of a session, as they were known at a moment.

    All pages of a list show what was known when the first was read.
    """
    position = query.position(_POSITION)
    link = _link(state.engine, query, position)
    if link is None:
        raise unknown_ticker(state.engine, ticker)
    bars = read_ticker(state.engine, ticker, link.number, query.basis, query.as_of)
    if bars.empty:
        raise _unknown(state.engine, ticker, query)
    as_of = bars["session"].iloc[-1].date()
    bars = bars.assign(session=bars["session"].dt.date, link=link.number).drop(columns="ticker")
    session = bars["session"]
    chosen = session.between(query.session_from or date.min, query.session_to or date.max)
    if position is not None:
        chosen &= session < position[0]
    newest_first = bars[chosen].iloc[: -query.limit - 2 : -1].astype(object)
    newest_first = newest_first.where(newest_first.notna(), None)
    currency, currency_since = read_currency(state.engine, ticker, link.number) or (None, None)
    rows: list[dict[str, Any]] = newest_first.to_dict("records")  # type: ignore[assignment]
    return page_of(
        PricePage,
        rows,
        query,
        ["session", "link"],
        ticker=ticker,
        basis=query.basis,
        currency=currency,
        currency_known_since=currency_since,
        as_of_session=as_of,
        known_at=link.written_at,
        link=link.number,
    )


def _link(engine: Engine, query: PricesParams, position: tuple[date, int] | None) -> Link | None:
    """Return the link that is shown: that of the first page, of the moment, or the newest."""
    if position is not None:
        found = find_link(engine, position[1])
        if found is None:
            raise invalid_cursor()
        return found
    if query.known_at is None:
        return head(engine)
    try:
        return find_link(engine, link_at(engine, query.known_at))
    except UnknownMomentError as error:
        raise not_found(f"{error.problem}. {error.remedy}") from None


def _unknown(engine: Engine, ticker: str, query: PricesParams) -> HTTPException:
    if query.known_at is None and query.as_of is None:
        return unknown_ticker(engine, ticker)
    return not_found(f"no prices of ticker {ticker} were known then")
