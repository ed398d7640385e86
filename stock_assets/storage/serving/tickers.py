"""Tickers and their stored prices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Engine, Text, cast, func, select, true, union
from sqlalchemy.dialects.postgresql import ARRAY

from stock_assets.storage.serving.paging import Position, Row, read_page
from stock_assets.storage.tables import instruments, raw_stock_data, ticker_renames

_BARS = raw_stock_data.c


def list_tickers(
    engine: Engine, universe: Sequence[str], size: int, after: Position | None = None
) -> list[Row]:
    """List the tickers of `universe` and all others ever fetched, in alphabetical order.

    Each with ``in_universe`` and with ``currency``, ``source``, ``first_session``,
    ``last_session`` and ``last_close``, None without a bar.
    """
    listed = cast(list(universe), ARRAY(Text))  # an empty list alone has no type
    named = union(
        select(instruments.c.ticker), select(func.unnest(listed).label("ticker"))
    ).subquery()
    of_ticker = select(_BARS.session, _BARS.close).where(_BARS.ticker == named.c.ticker)
    first = of_ticker.order_by(_BARS.session).limit(1).lateral("first")
    last = of_ticker.order_by(_BARS.session.desc()).limit(1).lateral("last")
    query = (
        select(
            named.c.ticker,
            instruments.c.currency,
            instruments.c.source,
            first.c.session.label("first_session"),
            last.c.session.label("last_session"),
            last.c.close.label("last_close"),
            (named.c.ticker == func.any(listed)).label("in_universe"),
        )
        .select_from(named)
        .outerjoin(instruments, instruments.c.ticker == named.c.ticker)
        .outerjoin(first, true())
        .outerjoin(last, true())
    )
    return read_page(engine, query, [named.c.ticker], size, after)


def name_since_rename(engine: Engine, ticker: str) -> tuple[str, date] | None:
    """Return the current name of a renamed ticker and its first session; None if not renamed.

    Later renames of the new name are followed.
    """
    renames = ticker_renames.c
    found: tuple[str, date] | None = None
    with engine.connect() as connection:
        while True:
            name, since = found or (ticker, date.min)
            query = (
                select(renames.new_ticker, renames.first_session)
                .where(renames.old_ticker == name, renames.first_session > since)
                .order_by(renames.first_session.desc())
                .limit(1)
            )
            if (later := connection.execute(query).one_or_none()) is None:
                return found
            found = later.new_ticker, later.first_session
