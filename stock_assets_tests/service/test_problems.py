"""Invalid requests: the status, the problem, and nothing of the server's internals."""

from __future__ import annotations

import re
from datetime import date

import httpx
import pytest
from sqlalchemy import Engine, insert, text

from stock_assets.service.app import create_app
from stock_assets.service.security import SECURITY_HEADERS
from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.tables import ticker_renames
from stock_assets_tests.service.conftest import send, state_for
from stock_assets_tests.storage.examples import DAYS, forecasts
from stock_assets_tests.tampering import tampering

INJECTIONS = [
    "IBM'; DROP TABLE predictions; --",
    "IBM');SELECT pg_sleep(10);--",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "IBM\x00",
    "\r\nSet-Cookie: a=b",
    "A" * 5000,
]
"""A few values for free text; the fuzzing of the OpenAPI document covers every parameter."""

INTERNALS = re.compile(r"traceback|psycopg|sqlalchemy|pg_|syntax error|SELECT |\.py\b", re.I)


def assert_problem(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    for name, value in SECURITY_HEADERS.items():
        assert response.headers[name] == value
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("value", INJECTIONS, ids=lambda value: ascii(value)[:20])
def test_injection_is_rejected(client: httpx.Client, value: str):
    assert_problem(client.get("/api/v1/forecasts", params={"ticker": value}), 422)
    assert_problem(client.get("/tickers", params={value[:100]: "1"}), 422)
    path = httpx.QueryParams({"": value}).__str__().removeprefix("=").replace("+", "%20")
    response = client.get(f"/api/v1/prices/{path}")
    assert response.status_code in (404, 422)
    assert not INTERNALS.search(response.text)


def test_invalid_part_is_named(client: httpx.Client):
    (error,) = client.get("/tickers?limit=1").json()["errors"]
    assert error["where"] == "query.limit"


def test_unknown_path_is_not_found(client: httpx.Client):
    assert_problem(client.get("/predictions/latest"), 404)


@pytest.mark.parametrize("path", ["/tickers", "/api/v1/forecasts"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_writing_methods_are_rejected(client: httpx.Client, method: str, path: str):
    response = client.request(method, path)
    assert_problem(response, 405)
    assert response.headers["allow"] == "GET, HEAD"


def test_body_is_rejected_unread(client: httpx.Client):
    for content in (b"x" * 1024, (part for part in [b"x"])):
        assert_problem(client.request("POST", "/tickers", content=content), 413)


def test_too_long_address_is_rejected(client: httpx.Client):
    assert_problem(client.get("/tickers", params={"x": "y" * 9000}), 414)


@pytest.mark.parametrize(
    "path", ["/ticker/FB", "/api/v1/prices/FB", "/historical_context_chart/FB"]
)
def test_renamed_ticker_names_its_new_name(engine: Engine, path: str):
    app = create_app(state_for(engine))
    assert_problem(send(app, path), 404)
    assert "META" not in send(app, path).text
    renamed = {"old_ticker": "FB", "new_ticker": "META", "first_session": date(2022, 6, 9)}
    with tampering(engine) as connection:
        connection.execute(insert(ticker_renames), {**renamed, "rows": 1})
    response = send(app, path)
    assert_problem(response, 404)
    assert "META" in response.json()["detail"]
    assert "2022-06-09" in response.json()["detail"]


def test_nan_and_infinity_are_null(engine: Engine):
    save_predictions(engine, forecasts(DAYS[:1], "A"), DAYS[:1], 1)
    with tampering(engine) as connection:
        connection.execute(text("UPDATE predictions SET predicted_return = 'NaN'"))
        connection.execute(text("UPDATE predictions SET upper_price = 'Infinity'"))
    response = send(create_app(state_for(engine)), "/api/v1/forecasts")
    (item,) = response.json()["items"]
    assert (item["predicted_return"], item["upper_price"]) == (None, None)
    assert not re.search("NaN|Infinity", response.text)


@pytest.mark.parametrize(
    "path",
    [
        *("/forecasts", "/performance", "/performance/tickers", "/models", "/promotions"),
        *("/retrainings", "/datasets", "/drift", "/checks"),
    ],
)
def test_empty_database_has_empty_lists(engine: Engine, path: str):
    page = send(create_app(state_for(engine)), f"/api/v1{path}").json()
    assert (page["items"], page["next"]) == ([], None)
