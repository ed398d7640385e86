"""The page Today: prices, forecasts and scores as stored."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import Engine

from stock_assets.evaluation.metrics import by_ticker, summarise
from stock_assets.market import calendar
from stock_assets.service.app import create_app
from stock_assets.service.pages import formatting
from stock_assets.service.pages.model_status import ModelStatus, Production
from stock_assets.service.pages.operations import operations
from stock_assets.service.pages.ticker import TickerParams
from stock_assets.service.pages.ticker import ticker as ticker_page
from stock_assets.service.pages.today import TodayParams, read_tickers, today
from stock_assets.storage.forecasts import predictions_as_of, recent_performance, save_predictions
from stock_assets.storage.prices import read_bars
from stock_assets.storage.serving.decisions import promotion_in_force
from stock_assets_tests.conftest import DATASET, LAST_INGESTED, REPLAYED, Loop
from stock_assets_tests.service.conftest import send, state_for
from stock_assets_tests.service.pages.conftest import Read, parse, table, text
from stock_assets_tests.storage.examples import DAYS, MODEL, bars, forecasts, store_bars


def test_row_shows_close_forecast_and_error(read: Read, loop: Loop) -> None:
    rows = {row[0]: row for row in table(read("/"), "#tickers")}
    made = predictions_as_of(loop.store.engine, [REPLAYED[1]]).set_index("ticker")
    bars = read_bars(loop.store.engine, LAST_INGESTED, LAST_INGESTED).set_index("ticker")
    errors = by_ticker(recent_performance(loop.store.engine, 20, (DATASET, 1))).set_index("ticker")

    assert sorted(rows) == sorted(bars.index)
    for ticker, forecast in made.iterrows():
        _, _, close, predicted, move, interval, _, relative_mae, session = rows[str(ticker)]
        assert close == formatting.price(bars["close"][ticker])
        assert predicted == formatting.price(forecast["predicted_price"])
        change = forecast["predicted_price"] / forecast["last_close"] - 1
        assert move.startswith(formatting.change(change))
        assert interval == (
            f"{formatting.price(forecast['lower_price'])} to "
            f"{formatting.price(forecast['upper_price'])}"
        )
        assert relative_mae == formatting.number(errors["relative_mae"][ticker])
        assert session.startswith(LAST_INGESTED.isoformat())


def test_older_forecast_is_marked(read: Read, loop: Loop) -> None:
    page = read("/")
    made = predictions_as_of(loop.store.engine, [REPLAYED[1]]).set_index("ticker")
    (apple,) = [row for row in table(page, "#tickers") if row[0] == "AAPL"]
    assert f"from {formatting.price(made['last_close']['AAPL'])}" in apple[4]
    assert apple[8].endswith("older forecast")
    assert "stock-assets predict" in text(page, ".notice")


def test_forecasts_say_how_they_were_issued(read: Read) -> None:
    assert text(read("/"), ".lead .issued") == "backfilled"


def test_accuracy_includes_persistence_and_the_edge(read: Read, loop: Loop) -> None:
    accuracy = text(read("/"), ".accuracy")
    rows = recent_performance(loop.store.engine, 20, (DATASET, 1))
    persistence = (rows["persistence_absolute_error"] / rows["actual"]).mean()
    assert formatting.percent(summarise(rows).mape) in accuracy
    assert formatting.percent(persistence) in accuracy
    decided = promotion_in_force(loop.store.engine, MODEL)
    assert ModelStatus(Production(None), decided, None).edge in accuracy


def test_sparkline_has_a_point_per_session(read: Read) -> None:
    lines = read("/").select("svg.spark polyline")
    assert len(lines) == 5
    assert len(str(lines[0]["points"]).split()) == 60


@pytest.mark.parametrize(
    "key", ["ticker", "close", "forecast", "move", "interval", "relative_mae", "session"]
)
def test_table_is_sorted_by_any_column(read: Read, key: str) -> None:
    ascending = [row[0] for row in table(read(f"/?sort={key}"), "#tickers")]
    descending = [row[0] for row in table(read(f"/?sort={key}&order=desc"), "#tickers")]
    assert sorted(ascending) == sorted(descending) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert key == "session" or ascending == descending[::-1]


def test_search_ignores_surrounding_blanks(read: Read) -> None:
    assert [row[0] for row in table(read("/?q=+ibm+"), "#tickers")] == ["IBM"]


def test_forecast_before_a_split_is_in_the_shares_of_the_close(engine: Engine) -> None:
    ratio = 4.0
    store_bars(engine, bars(["AAPL"], DAYS[:-1]))
    split = bars(["AAPL"], DAYS[-1:], close=100.1 / ratio).assign(stock_splits=ratio)
    store_bars(engine, split)
    save_predictions(engine, forecasts(DAYS[-2:-1], ["AAPL"]), DAYS[-2:-1], 1)
    tickers = read_tickers(state_for(engine), ModelStatus(Production(None), None, None), DAYS[-1])
    apple = tickers.loc["AAPL"]
    assert apple["close"] == 100.1 / ratio
    prices = apple[["from", "forecast", "lower", "upper"]]
    assert prices.tolist() == [100 / ratio, 101.5 / ratio, 99.5 / ratio, 103.5 / ratio]
    assert apple["move"] == pytest.approx(0.015)
    assert apple["interval"] == pytest.approx(0.04)


def test_late_prices_have_a_notice(engine: Engine) -> None:
    store_bars(engine, bars(["AAPL"], DAYS))
    late = parse(today(state_for(engine, "csv"), TodayParams()))
    assert any("late" in notice.get_text() for notice in late.select(".notice"))
    sample = parse(today(state_for(engine, "sample"), TodayParams()))
    assert not any("late" in notice.get_text() for notice in sample.select(".notice"))


def test_status_names_late_tickers_and_missing_forecasts(engine: Engine) -> None:
    store_bars(engine, bars(["AAPL"], DAYS))
    store_bars(engine, bars(["IBM"], DAYS[:-2]))
    store_bars(engine, bars(["MSFT"], DAYS))
    save_predictions(engine, forecasts(DAYS[-1:], ["AAPL", "IBM"]), DAYS[-1:], 1)
    state = state_for(engine)
    page = parse(today(state, TodayParams()))
    statuses = {row[0]: row[8] for row in table(page, "#tickers")}
    assert statuses["AAPL"] == str(DAYS[-1])
    assert statuses["IBM"] == f"{DAYS[-3]}late by 2 sessions"
    assert statuses["MSFT"] == f"{DAYS[-1]}no forecast"
    (other, *_) = set(state.params.prices.tickers) - {"AAPL", "IBM", "MSFT"}
    assert statuses[other] == "–no bar in 60 sessions"
    listed = len({*state.params.prices.tickers, "AAPL", "IBM", "MSFT"})
    assert f"{listed} of {listed} tickers" in text(page, "#found")
    assert formatting.long_day(calendar.next_session(DAYS[-1])) in text(page, "h1")


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/", "stock-assets demo"),
        ("/performance", "stock-assets backfill predictions performance_log"),
        ("/models", "stock-assets retrain"),
        ("/operations", "stock-assets backfill raw_prices"),
    ],
)
def test_empty_page_names_the_next_command(engine: Engine, path: str, command: str) -> None:
    response = send(create_app(state_for(engine)), path)
    assert command in text(BeautifulSoup(response.text, "html.parser"), ".empty")


def test_prices_without_a_model_name_the_next_command(engine: Engine) -> None:
    store_bars(engine, bars(["AAPL"], DAYS))
    state = state_for(engine)
    assert "stock-assets retrain" in text(parse(today(state, TodayParams())), ".notice")
    assert "stock-assets predict" in text(
        parse(ticker_page(state, "AAPL", TickerParams())), ".tiles"
    )
    drift = text(parse(operations(state)), "section:has(#drift)")
    assert "persistence reads no features" in drift
