"""Prices of a market, printed as JSON: ``python -m benchmarks.market``.

505 simulated tickers over 1,259 sessions, as traded, with splits and dividends. yfinance talks to a
local server that imitates Yahoo, in its own process.
"""

import json
import multiprocessing
import os
import tempfile
import time
from datetime import date, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from benchmarks.measuring import peak_megabytes, seconds_of
from stock_assets.cli.platform import open_platform
from stock_assets.config import Prices
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.market.sources.base import fetch_from_bars
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets.pipeline.ingestion import ingest
from stock_assets.storage.prices import read_bars, store_prices
from stock_assets_tests.market import yahoo_loopback

TICKERS = [f"T{number:03d}" for number in range(505)]
APPENDED = TICKERS[:470]
SESSIONS = calendar.sessions(date(2013, 2, 8), date(2018, 2, 7))[-1259:]
LAST = SESSIONS[-1]
EVENING = datetime.combine(LAST, datetime.min.time(), ZoneInfo(calendar.TIMEZONE)).replace(hour=18)


def market(sessions: list[date]) -> pd.DataFrame:
    """Simulate bars as traded: 1% volatility, four dividends a year, one split in ten years."""
    chance = np.random.default_rng(20180207)
    shape = (len(TICKERS), len(SESSIONS))
    splits = np.where(chance.random(shape) < 1 / 2520, 2.0, 0.0)
    steps = chance.normal(0.0, 0.01, shape) - np.log(np.where(splits > 0, splits, 1.0))
    close = np.round(80.0 * np.exp(steps.cumsum(axis=1)), 2).clip(1.0)
    frame = pd.DataFrame(
        {
            "ticker": np.repeat(TICKERS, len(SESSIONS)),
            "session": np.tile(pd.to_datetime(SESSIONS), len(TICKERS)),
            "open": close.ravel(),
            "high": np.round(close * 1.01, 2).ravel(),
            "low": np.round(close * 0.99, 2).ravel(),
            "close": close.ravel(),
            "volume": chance.integers(10**5, 10**7, shape).ravel(),
            "dividends": np.where(chance.random(shape) < 4 / 252, 0.25, 0.0).ravel(),
            "stock_splits": splits.ravel(),
        }
    )
    return tidy(frame[frame["session"].isin(pd.to_datetime(sessions))])


def serve(link: Connection) -> None:
    """Serve the newest sessions as Yahoo; send the environment, then the number of requests."""
    with (
        tempfile.TemporaryDirectory() as folder,
        yahoo_loopback.serve(market(SESSIONS[-30:]), EVENING, Path(folder)) as yahoo,
    ):
        link.send(yahoo.environment)
        link.recv()
        link.send(len(yahoo.log))


def main() -> None:
    """Measure storing, reading, appending and a daily update."""
    engine = open_platform().engine
    bars = market(SESSIONS)
    starts = dict.fromkeys(TICKERS, SESSIONS[0])
    earlier = bars[bars["session"] < pd.Timestamp(LAST)].reset_index(drop=True)
    newest = bars["session"].isin(pd.to_datetime(SESSIONS[-6:])) & bars["ticker"].isin(APPENDED)
    found: dict[str, Any] = {"tickers": len(TICKERS), "bars": len(bars)}
    found["store_seconds"] = seconds_of(
        lambda: store_prices(engine, fetch_from_bars(earlier), starts, "yahoo")
    )
    found["append_470_tickers_seconds"] = seconds_of(
        lambda: store_prices(engine, fetch_from_bars(bars[newest]), starts, "yahoo")
    )
    found["read_seconds"] = seconds_of(lambda: read_bars(engine, SESSIONS[0], LAST))
    found["yahoo_daily_update"] = _update(engine)
    found["peak_megabytes"] = round(peak_megabytes())
    print(json.dumps(found))


def _update(engine: Any) -> dict[str, Any]:
    """Fetch the newest session of all tickers at the default request rate."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    os.environ |= here.recv()
    prices = Prices(source="yahoo", tickers=TICKERS, first_session=SESSIONS[0])
    source = YahooSource(prices.yahoo, now=lambda: EVENING)
    began = time.perf_counter()
    done = ingest(engine, source, prices, [LAST])
    seconds = time.perf_counter() - began
    here.send("count")
    return {
        "seconds": seconds,
        "requests": here.recv(),
        "complete": len(done.complete),
        "inserted": done.stored.bars.inserted,
        "revisions": done.stored.revisions,
    }


if __name__ == "__main__":
    main()
