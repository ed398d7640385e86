"""The application: pages of problems, compression, HEAD and failures."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, text

from stock_assets.service.app import create_app
from stock_assets.service.pages.rendering import ticker_address
from stock_assets.service.security import SECURITY_HEADERS
from stock_assets_tests.service.conftest import send, state_for, unavailable_engine
from stock_assets_tests.storage.examples import DAYS, bars, store_bars

AS_A_BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def app(engine: Engine) -> FastAPI:
    """The application on a database with one ticker."""
    store_bars(engine, bars(["AAPL"], DAYS))
    return create_app(state_for(engine))


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/nothing/here", 404, "Not Found"),
        ("/ticker/NONE", 404, "NONE"),
        ("/?sort=nothing", 422, "query.sort"),
        ("/?%3Cscript%3E=1", 422, "&lt;script&gt;"),
    ],
)
def test_browser_gets_a_problem_as_a_page(
    app: FastAPI, path: str, status: int, content: str
) -> None:
    page = send(app, path, **AS_A_BROWSER)
    assert page.status_code == status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert content in page.text
    assert "<script>" not in page.text.split("<main", 1)[1]
    assert page.headers["x-request-id"]
    assert page.headers["cache-control"] == "no-store"
    assert send(app, path).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["BRK-B", "EURUSD=X", "A^B", "BF.B"])
def test_special_characters_in_a_ticker(engine: Engine, name: str) -> None:
    store_bars(engine, bars([name], DAYS))
    app = create_app(state_for(engine))
    page = send(app, ticker_address(name), **AS_A_BROWSER)
    assert page.status_code == 200
    assert f"<h1>{name}</h1>" in page.text
    assert send(app, f"/api/v1/prices/{quote(name)}").json()["ticker"] == name
    assert send(app, f"/historical_context_chart/{quote(name)}").json()["ticker"] == name


def test_unavailable_database_is_a_503() -> None:
    app = create_app(state_for(unavailable_engine()))
    for headers in ({}, AS_A_BROWSER):
        response = send(app, "/", **headers)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert "database is not available" in response.text


@pytest.mark.parametrize("path", ["/tickers", "/readyz"])
def test_exhausted_connection_pool_is_a_503_of_its_own(engine: Engine, path: str) -> None:
    small = create_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    with small.connect():
        response = send(create_app(state_for(small)), path)
    small.dispose()
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "too many requests" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/ticker/AAPL", "/api/v1/tickers", "/tickers"])
def test_schema_of_another_version_is_a_503(engine: Engine, app: FastAPI, path: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE raw_stock_data RENAME TO elsewhere"))
        connection.execute(text("ALTER TABLE instruments RENAME TO elsewhere_too"))
    try:
        response = send(app, path)
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO raw_stock_data"))
            connection.execute(text("ALTER TABLE elsewhere_too RENAME TO instruments"))
    assert response.status_code == 503
    assert "schema" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/tickers", "/api/v1/forecasts", "/healthz", "/none"])
def test_head_equals_get_without_the_body(client: httpx.Client, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    browser = client.head(path, headers=AS_A_BROWSER).headers["content-type"]
    assert browser == client.get(path, headers=AS_A_BROWSER).headers["content-type"]
    for name in ("content-type", "content-length"):
        assert head.headers.get(name) == get.headers.get(name)


def test_long_responses_are_compressed(client: httpx.Client) -> None:
    compressed, short = client.get("/"), client.get("/healthz")
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in short.headers
    plain = client.get("/", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == compressed.text


def test_failure_has_the_headers_of_every_response(app: FastAPI) -> None:
    @app.get("/fails")
    def fails() -> None:
        raise RuntimeError("a secret")

    for headers in ({}, AS_A_BROWSER):
        response = send(app, "/fails", **headers)
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.headers["x-request-id"] in response.text
        for name, value in SECURITY_HEADERS.items():
            assert response.headers[name] == value
