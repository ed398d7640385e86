"""Whatever is asked wrongly is told as a problem, and what was asked never does harm."""

from __future__ import annotations

import re

import httpx
import pytest
from sqlalchemy import text

from stock_assets.service.security import SECURITY_HEADERS
from stock_assets_tests.conftest import Loop

pytestmark = pytest.mark.slow

INJECTIONS = [
    "' OR '1'='1",
    "IBM'; DROP TABLE predictions; --",
    'IBM" UNION SELECT * FROM pg_shadow --',
    "IBM');SELECT pg_sleep(10);--",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "\x00",
    "IBM\x00",
    "%ff%fe",
    "\r\nSet-Cookie: a=b",
    "𝕀𝔹𝕄",
    "A" * 5000,
    "-1",
    "1e999",
    "NaN",
    "%s%s%n",
    ":name",
]
ROUTES = [
    *("/predictions/latest_for_table", "/tickers", "/historical_context_chart/IBM"),
    *("/healthz", "/readyz", "/api/v1/health", "/metrics"),
]


def require_a_problem(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == answer.status_code
    assert told["title"]
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert not re.search(r"Traceback|psycopg2|sqlalchemy|File \"", answer.text)


@pytest.mark.parametrize("written", INJECTIONS)
def test_a_path_that_is_no_ticker_is_refused(client: httpx.Client, loop: Loop, written: str):
    path = httpx.QueryParams({"": written}).__str__().removeprefix("=").replace("+", "%20")
    require_a_problem(client.get(f"/historical_context_chart/{path}"))
    with loop.store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM predictions"))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("written", INJECTIONS)
def test_a_parameter_that_no_route_knows_is_refused(client: httpx.Client, route: str, written: str):
    require_a_problem(client.get(route, params={"ticker": written}))
    require_a_problem(client.get(route, params={written[:100]: "1"}))


def test_what_is_wrong_is_named(client: httpx.Client):
    assert client.get("/tickers?limit=1").json()["errors"] == [
        {"where": "query.limit", "why": "Extra inputs are not permitted"}
    ]


def test_no_such_address(client: httpx.Client):
    answer = client.get("/predictions/latest")
    require_a_problem(answer)
    assert answer.status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(client: httpx.Client, method: str):
    answer = client.request(method, "/tickers")
    require_a_problem(answer)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_body_is_refused_before_it_is_read(client: httpx.Client):
    for content in (b"x" * 1024, (part for part in [b"x"])):
        answer = client.request("POST", "/tickers", content=content)
        require_a_problem(answer)
        assert answer.status_code == 413


def test_an_address_without_end_is_refused(client: httpx.Client):
    answer = client.get("/tickers", params={"x": "y" * 9000})
    require_a_problem(answer)
    assert answer.status_code == 414
