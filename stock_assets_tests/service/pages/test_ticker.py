"""The page of a ticker."""

from __future__ import annotations

import httpx
import pytest
from sqlalchemy import Engine

from stock_assets.market import calendar
from stock_assets.service.pages import formatting
from stock_assets.service.pages.ticker import TickerParams, ticker
from stock_assets.storage.decisions import promotion_of
from stock_assets.storage.forecasts import predictions_as_of, read_performance, save_predictions
from stock_assets.storage.prices import read_bars
from stock_assets_tests.conftest import DATASET, LAST_INGESTED, REPLAYED, Loop
from stock_assets_tests.service.conftest import state_for
from stock_assets_tests.service.pages.conftest import Read, figure, parse, table, text
from stock_assets_tests.storage.examples import DAYS, MODEL, bars, forecasts, store_bars


@pytest.mark.parametrize(("chosen", "sessions"), [("1M", 21), ("1Y", 252)])
def test_range_sets_the_number_of_sessions(
    read: Read, loop: Loop, chosen: str, sessions: int
) -> None:
    page = read(f"/ticker/AAPL?range={chosen}")
    first = calendar.previous_session(LAST_INGESTED, sessions - 1)
    bars = read_bars(loop.store.engine, first, LAST_INGESTED, ["AAPL"])
    volume, candles, *_ = figure(page, "prices")["data"]
    assert candles["close"] == bars["close"].round(4).tolist()
    assert volume["y"] == bars["volume"].tolist()
    assert text(page, ".ranges [aria-current]") == chosen


def test_whole_history_is_a_line_of_adjusted_closes(read: Read) -> None:
    closes = figure(read("/ticker/AAPL?range=All"), "prices")["data"][1]
    assert closes["type"] == "scatter"
    drawn = closes["y"]
    assert len(drawn) == 3270
    assert drawn[0] == pytest.approx(130.31 / 4, abs=0.01)  # splits of 2000 and 2005


def test_scored_forecasts_are_the_stored_ones(read: Read, loop: Loop) -> None:
    rows = table(read("/ticker/IBM"), "#scored")
    scored = read_performance(loop.store.engine, *REPLAYED).query("ticker == 'IBM'")
    assert len(rows) == len(scored)
    for row, stored in zip(rows, scored.iloc[::-1].itertuples(), strict=True):
        assert row == [
            f"{stored.session:%Y-%m-%d}",
            *(formatting.price(getattr(stored, name)) for name in ("actual", "predicted")),
            *(formatting.price(getattr(stored, name)) for name in ("lower", "upper")),
            formatting.percent(stored.absolute_percentage_error),
            formatting.percent(stored.persistence_absolute_error / stored.actual),
            "yes" if stored.covered else "no",
            str(stored.model_version),
            "backfilled",
        ]


def test_lineage_of_the_newest_forecast(read: Read, loop: Loop) -> None:
    page = read("/ticker/AAPL")
    lineage = text(page, "ol.lineage")
    made = predictions_as_of(loop.store.engine, [REPLAYED[1]]).set_index("ticker").loc["AAPL"]
    decided = promotion_of(loop.store.engine, MODEL, DATASET)
    assert decided is not None
    for part in (
        formatting.price(made["predicted_price"]),
        str(made["dagster_run_id"])[:8],
        f"Version {made['model_version']}",
        decided.mlflow_run_id[:8],
        DATASET,
        "backfilled",
        "30 bars of AAPL",
    ):
        assert part in lineage
    path = f"/api/v1/lineage/forecast/{REPLAYED[1]}/AAPL?horizon=1"
    assert page.select(f'a[href="{path}"]')
    assert f"stock-assets prove {REPLAYED[1]}/AAPL/1" in [c.text for c in page.select("code")]
    assert page.select('a[href="/models#decision-1"]')
    assert page.select(f'a[href="/api/v1/forecasts/{REPLAYED[1]}/AAPL/issues"]')


@pytest.mark.parametrize("name", ["%00", "aapl", "A%0AB", "NONE", "A" * 5000, "%3Cscript%3E"])
def test_unknown_ticker_is_not_found(client: httpx.Client, name: str) -> None:
    assert client.get(f"/ticker/{name}").status_code == 404


def test_forecast_before_a_split_is_in_the_shares_of_the_candles(
    engine: Engine,
) -> None:
    store_bars(engine, bars(["AAPL"], DAYS[:-1]))
    store_bars(engine, bars(["AAPL"], DAYS[-1:], close=25.0).assign(stock_splits=4.0))
    save_predictions(engine, forecasts(DAYS[-2:-1], ["AAPL"]), DAYS[-2:-1], 1)
    page = parse(ticker(state_for(engine), "AAPL", TickerParams(range="1M")))
    assert figure(page, "prices")["data"][2]["y"] == [pytest.approx(101.5 / 4, abs=1e-4)]
    assert formatting.price(101.5 / 4) in text(page, ".tiles")


@pytest.mark.parametrize("query", ["range=2Y", "other=1", "range=1M&range=3M&x"])
def test_invalid_query_is_rejected(client: httpx.Client, query: str) -> None:
    assert client.get(f"/ticker/AAPL?{query}").status_code == 422
