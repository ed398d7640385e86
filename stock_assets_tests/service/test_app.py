"""What every request passes through, whatever becomes of it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, text

from stock_assets.service.app import create_app
from stock_assets.service.pages.rendering import ticker_address
from stock_assets.service.security import SECURITY_HEADERS
from stock_assets_tests.service.conftest import ask, served
from stock_assets_tests.storage.examples import DAYS, bars, store_bars

AS_A_BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def app(engine: Engine) -> FastAPI:
    """The application on a database with one ticker."""
    store_bars(engine, bars(["AAPL"], DAYS))
    return create_app(served(engine))


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/nothing/here", 404, "Not Found"),
        ("/ticker/NONE", 404, "No prices are stored of a ticker called NONE."),
        ("/?sort=nothing", 422, "query.sort"),
        ("/?%3Cscript%3E=1", 422, "&lt;script&gt;"),
    ],
)
def test_a_person_reads_a_problem_as_a_page(
    app: FastAPI, path: str, status: int, told: str
) -> None:
    page = ask(app, path, **AS_A_BROWSER)
    assert page.status_code == status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert told in page.text
    assert "<script>" not in page.text.split("<main", 1)[1]
    assert page.headers["x-request-id"]
    assert page.headers["cache-control"] == "no-store"
    assert ask(app, path).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["BRK-B", "EURUSD=X", "A^B", "BF.B"])
def test_a_ticker_with_an_odd_name_is_asked_for_by_its_name(engine: Engine, name: str) -> None:
    store_bars(engine, bars([name], DAYS))
    app = create_app(served(engine))
    page = ask(app, ticker_address(name), **AS_A_BROWSER)
    assert page.status_code == 200
    assert f"<h1>{name}</h1>" in page.text
    assert ask(app, f"/api/v1/prices/{quote(name)}").json()["ticker"] == name
    assert ask(app, f"/historical_context_chart/{quote(name)}").json()["ticker"] == name


def test_a_person_reads_that_the_database_is_away() -> None:
    away = create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    page = ask(create_app(served(away)), "/", **AS_A_BROWSER)
    assert page.status_code == 503
    assert page.headers["retry-after"] == "5"
    assert "The database does not answer." in page.text


@pytest.mark.parametrize("path", ["/", "/ticker/AAPL", "/api/v1/tickers", "/tickers"])
def test_tables_of_another_version_are_told_and_not_a_failure(
    engine: Engine, app: FastAPI, path: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE raw_stock_data RENAME TO elsewhere"))
        connection.execute(text("ALTER TABLE instruments RENAME TO elsewhere_too"))
    try:
        answer = ask(app, path)
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO raw_stock_data"))
            connection.execute(text("ALTER TABLE elsewhere_too RENAME TO instruments"))
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the database does not have the tables of this version"


@pytest.mark.parametrize("path", ["/", "/tickers", "/api/v1/forecasts", "/healthz", "/none"])
def test_head_is_get_without_the_body(app: FastAPI, path: str) -> None:
    whole, head = ask(app, path), ask(app, path, "HEAD")
    assert head.status_code == whole.status_code
    assert head.content == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == whole.headers[name]
    assert head.headers.get("etag") == whole.headers.get("etag")
    assert 'method="HEAD",route="none"' not in ask(app, "/metrics").text or path == "/none"


def test_a_failure_carries_the_headers_of_every_answer(app: FastAPI) -> None:
    @app.get("/fails")
    def fails() -> None:
        raise RuntimeError("a secret")

    for headers in ({}, AS_A_BROWSER):
        answer = ask(app, "/fails", **headers)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"] in answer.text
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
