"""Sessions of the sample ingested from a Yahoo on this machine, and what the tables hold then."""

from __future__ import annotations

from datetime import date, datetime

import pandas as pd
from sqlalchemy import Engine, text

from stock_assets.config import Prices
from stock_assets.config import Yahoo as YahooSettings
from stock_assets.market.sources.sample import load_sample
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets.pipeline.ingestion import Ingestion, ingest
from stock_assets.storage.prices import read_bars
from stock_assets.storage.tables import metadata
from stock_assets_tests.market import yahoo_loopback

TICKERS = ["AAPL", "IBM", "MSFT"]
FIRST, LAST = date(2004, 11, 1), date(2005, 4, 29)
DIVIDEND = date(2004, 11, 15)  # MSFT, 3.08 a share
SPLIT = date(2005, 2, 28)  # AAPL, two for one
QUICK = YahooSettings(
    requests_per_second=1000.0,
    timeout_seconds=10.0,
    attempts=2,
    backoff_seconds=0.01,
    backoff_limit_seconds=0.02,
)
PRICES = Prices(source="yahoo", tickers=TICKERS, first_session=FIRST, yahoo=QUICK)


def traded(last: date = LAST, first: date = FIRST) -> pd.DataFrame:
    """Bars of all tickers as traded."""
    bars = load_sample()
    wanted = bars["ticker"].isin(TICKERS) & bars["session"].between(
        pd.Timestamp(first), pd.Timestamp(last)
    )
    return bars[wanted].reset_index(drop=True)


def evening(session: date) -> datetime:
    """A moment at which the session's bars are final."""
    return datetime.combine(session, datetime.min.time(), yahoo_loopback.NEW_YORK).replace(hour=18)


def source(yahoo: yahoo_loopback.Yahoo) -> YahooSource:
    return YahooSource(QUICK, now=lambda: yahoo.now)


def bring(
    engine: Engine, yahoo: yahoo_loopback.Yahoo, *days: date, prices: Prices = PRICES
) -> Ingestion:
    """Ingest sessions on the evening of the last one."""
    yahoo.now = max(yahoo.now, evening(days[-1]))
    return ingest(engine, source(yahoo), prices, list(days))


def seen(engine: Engine, yahoo: yahoo_loopback.Yahoo, session: date) -> Ingestion:
    """Ingest a session on its evening."""
    yahoo.now = evening(session)
    return ingest(engine, source(yahoo), PRICES, [session])


def stored(engine: Engine) -> pd.DataFrame:
    return read_bars(engine, FIRST, LAST)


def rows(engine: Engine, table: str) -> list[tuple[object, ...]]:
    """Content of a table, without the times at which rows were written."""
    names = [c.name for c in metadata.tables[table].columns if not c.name.endswith("_at")]
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT {', '.join(names)} FROM {table} ORDER BY 1, 2, 3"))
        return [tuple(row) for row in found]


def everything(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """The price tables without the times of writing."""
    names = ("raw_stock_data", "corporate_actions", "instruments", "price_revisions")
    return {name: rows(engine, name) for name in names}


def rules(done: Ingestion) -> list[tuple[str, str, str]]:
    """Ticker, rule and severity of what was found."""
    return list(done.findings[["ticker", "rule", "severity"]].itertuples(index=False, name=None))
