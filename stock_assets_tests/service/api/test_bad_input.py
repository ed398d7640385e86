"""Whatever is written into a parameter, nothing but a refusal comes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import Engine, text

from stock_assets.storage.forecasts import save_predictions
from stock_assets_tests.conftest import Loop
from stock_assets_tests.service.api.asking import API, ask, rows
from stock_assets_tests.service.conftest import begin_own
from stock_assets_tests.storage.examples import DAYS, forecasts

pytestmark = pytest.mark.slow

ATTEMPTS = (
    "' OR '1'='1",
    "'; DROP TABLE predictions; --",
    "AAPL' UNION SELECT usename FROM pg_user --",
    "1; SELECT pg_sleep(10)",
    "1) OR (1=1",
    '" OR ""="',
    "$$;SELECT 1;$$",
    "\\'; SELECT 1; --",
    "%(ticker)s",
    ":ticker",
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "..\\..\\windows",
    "\x00",
    "AAPL\x00",
    "\r\nSet-Cookie: a=b",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "\N{FULLWIDTH DIGIT ONE}",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "NaN",
    "Infinity",
    "-1",
    "1e309",
    "0x10",
    "null",
    "None",
    "[]",
    "{}",
    "*",
    "%",
    " ",
    "A" * 5000,
)
REVEALING = re.compile(r"traceback|psycopg|sqlalchemy|pg_|syntax error|SELECT |\.py\b", re.I)


@pytest.fixture(scope="module")
def parameters(client: httpx.Client) -> list[tuple[str, dict[str, Any]]]:
    """Every parameter of every address in the document."""
    document = client.get(f"{API}/openapi.json").json()
    found = [
        (path, parameter)
        for path, item in document["paths"].items()
        for parameter in item["get"].get("parameters", [])
    ]
    assert len(found) > 50
    return found


def address_with(attempt: str, path: str, parameter: dict[str, Any]) -> str:
    good = {
        "as_of_session": "2013-01-15",
        "ticker": "AAPL",
        "model_version": "1",
        "dataset_run_id": "20121231_120000",
    }
    if parameter["in"] == "path":
        good[parameter["name"]] = quote(attempt, safe="")
    filled = re.sub(r"{(\w+)}", lambda name: good[name[1]], path)
    if parameter["in"] == "path":
        return filled
    return f"{filled}?{parameter['name']}={quote(attempt, safe='')}"


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: ascii(attempt)[:30])
def test_an_injection_into_any_parameter_is_refused(
    client: httpx.Client, parameters: list[tuple[str, dict[str, Any]]], attempt: str
) -> None:
    for path, parameter in parameters:
        address = address_with(attempt, path, parameter)
        answer = client.get(address)
        assert 400 <= answer.status_code < 500, (address, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", address
        assert not REVEALING.search(answer.text), address
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("attempt", ATTEMPTS[:8])
def test_an_injection_as_the_name_of_a_parameter_is_refused(
    client: httpx.Client, parameters: list[tuple[str, dict[str, Any]]], attempt: str
) -> None:
    for path in {path for path, _ in parameters if "{" not in path}:
        answer = client.get(path, params={attempt: "1"})
        assert answer.status_code == 422, path


def test_the_tables_are_as_before(client: httpx.Client, loop: Loop) -> None:
    counted = "SELECT count(*) AS rows FROM predictions"
    assert rows(loop.store.engine, counted)[0]["rows"] > 0
    assert ask(client, "/forecasts")["items"]


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_can_be_written(client: httpx.Client, method: str) -> None:
    assert client.request(method, f"{API}/forecasts").status_code == 405


def test_a_number_that_is_none_leaves_as_null(engine: Engine, tmp_path: Path) -> None:
    """The tables should never hold one; if they do, the answer is still JSON."""
    save_predictions(engine, forecasts(DAYS[:1], "A"), DAYS[:1], 1)
    with engine.begin() as connection:
        connection.execute(text("UPDATE predictions SET predicted_return = 'NaN'"))
        connection.execute(text("UPDATE predictions SET upper_price = 'Infinity'"))
    with begin_own(engine, tmp_path) as service:
        answer = service.client().get(f"{API}/forecasts")
    (item,) = answer.json()["items"]
    assert (item["predicted_return"], item["upper_price"]) == (None, None)
    assert not re.search("NaN|Infinity", answer.text)


def test_an_empty_database_has_empty_lists(engine: Engine, tmp_path: Path) -> None:
    with begin_own(engine, tmp_path) as service, service.client() as client:
        for path in (
            *("/forecasts", "/performance", "/performance/tickers", "/models", "/promotions"),
            *("/retrainings", "/datasets", "/drift"),
        ):
            page = ask(client, path)
            assert (page["items"], page["next"]) == ([], None), path
        for item in ask(client, "/tickers")["items"]:
            assert item["last_close"] is None
        assert client.get(f"{API}/prices/AAPL").status_code == 404
