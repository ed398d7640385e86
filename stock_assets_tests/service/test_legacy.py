"""The endpoints of the former system: their fields and values."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import httpx
from sqlalchemy import Engine, text

from stock_assets.market import calendar
from stock_assets.service.app import create_app
from stock_assets_tests.conftest import REPLAYED, Loop
from stock_assets_tests.service.conftest import send, state_for
from stock_assets_tests.tampering import tampering


def rows(loop: Loop, query: str, **values: object) -> list[Any]:
    with loop.store.engine.connect() as connection:
        return list(connection.execute(text(query), values))


def test_table_holds_the_newest_forecast_of_each_ticker(client: httpx.Client, loop: Loop):
    answer = client.get("/predictions/latest_for_table")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    stored = rows(
        loop,
        "SELECT ticker, predicted_price, target_session, mlflow_run_id FROM latest_predictions "
        "WHERE horizon = 1 ORDER BY ticker",
    )
    assert stored
    assert answer.json() == {
        "status": "success",
        "data": [
            {
                "ticker": ticker,
                "predicted_price": price,
                "date": target.isoformat(),
                "model_mlflow_run_id": run,
            }
            for ticker, price, target, run in stored
        ],
    }


def test_tickers_are_the_fetched_ones(client: httpx.Client, loop: Loop):
    assert client.get("/tickers").json() == {
        "status": "success",
        "tickers": [row.ticker for row in rows(loop, "SELECT ticker FROM instruments ORDER BY 1")],
    }


def test_chart_holds_the_closes_before_the_forecast(client: httpx.Client, loop: Loop):
    as_of = REPLAYED[1]
    chart = client.get("/historical_context_chart/IBM").json()

    assert chart.keys() == {
        *("status", "ticker", "historical_dates", "historical_actuals"),
        *("prediction_reference_date", "predicted_price_for_ref_date"),
    }
    assert (chart["status"], chart["ticker"]) == ("success", "IBM")
    sessions = calendar.sessions(calendar.previous_session(as_of, 13), as_of)
    assert chart["historical_dates"] == [day.isoformat() for day in sessions]
    closes = rows(
        loop,
        "SELECT close FROM raw_stock_data WHERE ticker = 'IBM' AND session = ANY(:days) "
        "ORDER BY session",
        days=sessions,
    )
    assert chart["historical_actuals"] == [row.close for row in closes]  # no split among them
    ((target, price),) = rows(
        loop,
        "SELECT target_session, predicted_price FROM latest_predictions "
        "WHERE ticker = 'IBM' AND horizon = 1",
    )
    assert date.fromisoformat(chart["prediction_reference_date"]) == target
    assert target == calendar.next_session(as_of)
    assert math.isclose(chart["predicted_price_for_ref_date"], price, rel_tol=0)


def test_unknown_ticker_is_not_found(client: httpx.Client):
    answer = client.get("/historical_context_chart/AAPL.X")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "no prices are stored for ticker AAPL.X",
    }


def test_closes_before_a_split_are_adjusted(engine: Engine):
    """Two for one: the earlier close is halved."""
    with tampering(engine) as connection:
        connection.execute(
            text(
                "INSERT INTO instruments (ticker, currency, fetched_from, source) "
                "VALUES ('HALF', 'USD', '2013-01-02', 'csv'), ('NEW', 'USD', '2013-01-02', 'csv')"
            )
        )
        for session, close, split in (("02", 100.0, 0.0), ("03", 50.0, 2.0), ("04", 50.0, 0.0)):
            connection.execute(
                text(
                    "INSERT INTO raw_stock_data (ticker, session, open, high, low, close, volume, "
                    "stock_splits, source) VALUES ('HALF', :day, :close, :close, :close, :close, "
                    "1, :split, 'csv')"
                ),
                {"day": f"2013-01-{session}", "close": close, "split": split},
            )
    app = create_app(state_for(engine))
    chart = send(app, "/historical_context_chart/HALF").json()
    empty = send(app, "/historical_context_chart/NEW").json()

    assert chart["historical_actuals"] == [50.0, 50.0, 50.0]
    assert chart["historical_dates"] == ["2013-01-02", "2013-01-03", "2013-01-04"]
    assert chart["prediction_reference_date"] is None
    assert chart["predicted_price_for_ref_date"] is None
    assert (empty["historical_dates"], empty["historical_actuals"]) == ([], [])
