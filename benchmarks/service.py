"""The service with the data of a market, under load: ``python -m benchmarks.service``.

505 simulated tickers, five years of prices, a year of forecasts and scores. The client shares the
cores with the service and keeps its connections on loopback open.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import Engine, text

from benchmarks.market import SESSIONS, TICKERS, market
from stock_assets.cli.platform import open_platform
from stock_assets.config import Params
from stock_assets.evaluation.promotion_rule import PromotionDecision, PromotionOutcome
from stock_assets.evaluation.scoring import score_due
from stock_assets.evaluation.significance import DieboldMariano, Edge
from stock_assets.market.calendar import next_session
from stock_assets.market.sources.base import fetch_from_bars
from stock_assets.storage.datasets import PanelRecord, save_panel
from stock_assets.storage.decisions import PromotionRecord, save_promotion
from stock_assets.storage.forecasts import save_performance, save_predictions
from stock_assets.storage.prices import store_prices

DATASET, FORECAST_SESSIONS = "20170208_120000", SESSIONS[-252:]
CONNECTIONS, LATEST = 8, "/api/v1/forecasts?limit=1000"
PAGES = {
    "today": "/",
    "ticker_year": f"/ticker/{TICKERS[0]}?range=1Y",
    "performance": "/performance",
}


def main() -> None:
    """Fill a database, start the service and measure it."""
    platform = open_platform()
    fill(platform.engine)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "stock-assets"), "serve", "--port", str(port)]
    unlimited = os.environ | {"STOCK_ASSETS_REQUESTS_PER_MINUTE": str(10**8)}
    with subprocess.Popen(
        command, env=unlimited, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as service:
        try:
            _wait(port)
            found = {name: _time(port, path) for name, path in PAGES.items()}
            found["latest_forecasts"] = _time(port, LATEST)
            before = _megabytes(service.pid)
            found["latest_forecasts_under_load"] = _load(port, 2_000) | {
                "megabytes_before": before,
                "megabytes_after": _megabytes(service.pid),
            }
        finally:
            service.terminate()
    print(json.dumps(found))


def fill(engine: Engine) -> None:
    """Store prices, one model, and a year of its forecasts and scores."""
    bars = fetch_from_bars(market(SESSIONS)).bars
    store_prices(
        engine, fetch_from_bars(market(SESSIONS)), dict.fromkeys(TICKERS, SESSIONS[0]), "yahoo"
    )
    save_panel(engine, _panel())
    save_promotion(engine, _promotion())
    chance = np.random.default_rng(1)
    known = bars[bars["session"].isin(pd.to_datetime(FORECAST_SESSIONS))]
    move = chance.normal(0.0, 0.002, len(known))
    price = known["close"].to_numpy() * np.exp(move)
    following = {pd.Timestamp(day): pd.Timestamp(next_session(day)) for day in FORECAST_SESSIONS}
    forecasts = pd.DataFrame(
        {
            "as_of_session": known["session"].to_numpy(),
            "target_session": known["session"].map(following).to_numpy(),
            "ticker": known["ticker"].to_numpy(),
            "horizon": 1,
            "last_close": known["close"].to_numpy(),
            "predicted_return": move,
            "predicted_price": price,
            "lower_price": price * 0.98,
            "upper_price": price * 1.02,
            "coverage": 0.9,
            "model_version": 1,
            "dataset_run_id": DATASET,
            "mlflow_run_id": "0" * 32,
            "dagster_run_id": "bench",
        }
    )
    save_predictions(engine, forecasts, FORECAST_SESSIONS, 1)
    scored = score_due(forecasts, bars)
    days = [day.date() for day in scored["session"].drop_duplicates()]
    save_performance(engine, scored.drop(columns="dagster_run_id"), days, "bench")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def _panel() -> PanelRecord:
    return PanelRecord(
        dataset_run_id=DATASET,
        as_of_session=date(2017, 2, 8),
        first_session=SESSIONS[0],
        last_session=date(2017, 2, 8),
        bars=1,
        tickers=TICKERS,
        features=["Log_Return"],
        basis="adjusted",
        adjustment_factors={},
        target="log_return",
        params=Params().model_dump(mode="json"),
        bars_digest="0" * 64,
        digest="0" * 64,
        location="00/0.safetensors",
    )


def _promotion() -> PromotionRecord:
    return PromotionRecord(
        dataset_run_id=DATASET,
        as_of_session=date(2017, 2, 8),
        model_name="StockPricePredictor",
        candidate_version=1,
        production_version=None,
        metric="relative_mae",
        candidate={"relative_mae": 1.0},
        production=None,
        persistence={"relative_mae": 1.0},
        first_session=SESSIONS[-320],
        last_session=date(2017, 2, 7),
        promoted=True,
        decision=PromotionDecision(
            outcome=PromotionOutcome.FIRST_MODEL,
            metric="relative_mae",
            candidate=1.0,
            production=None,
            persistence=1.0,
            forecasts=1,
            sessions=1,
            minimum_improvement=0.0,
            significance=None,
            against_production=None,
            against_persistence=DieboldMariano(0.0, 1, None, None, "one session"),
            edge=Edge.UNDEFINED,
        ),
        mlflow_run_id="0" * 32,
    )


def _wait(port: int) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the service did not start")


def _time(port: int, path: str) -> dict[str, float]:
    """Time single responses."""
    seconds, size = [], 0
    for _ in range(9):
        began = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            size = len(answer.read())
        seconds.append(time.perf_counter() - began)
    return {
        "median_milliseconds": 1000 * float(np.median(seconds)),
        "slowest_milliseconds": 1000 * max(seconds),
        "kilobytes": size / 1000,
    }


def _load(port: int, requests: int) -> dict[str, float]:
    """Request the latest forecasts over several open connections at once."""
    began = time.perf_counter()
    seconds = np.sort(asyncio.run(_request_all(port, requests)))
    return {
        "requests": len(seconds),
        "requests_per_second": len(seconds) / (time.perf_counter() - began),
        "median_milliseconds": 1000 * float(np.quantile(seconds, 0.5)),
        "p99_milliseconds": 1000 * float(np.quantile(seconds, 0.99)),
    }


async def _request_all(port: int, requests: int) -> list[float]:
    clients = [_connection(port, requests // CONNECTIONS) for _ in range(CONNECTIONS)]
    return [one for part in await asyncio.gather(*clients) for one in part]


async def _connection(port: int, requests: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {LATEST} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: gzip\r\n\r\n"
    seconds = []
    for _ in range(requests):
        began = time.perf_counter()
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if " 200 " not in head.partition("\r\n")[0]:
            raise SystemExit(f"the service responded: {head}")
        (length,) = re.findall(r"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length))
        seconds.append(time.perf_counter() - began)
    writer.close()
    return seconds


def _megabytes(process: int) -> float:
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(kilobytes) / 1024


if __name__ == "__main__":
    main()
