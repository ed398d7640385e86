"""What is noted of requests: ids, a line each, figures by route, and failures as problems."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine

from stock_assets.service.request_metrics import Metrics, Observed
from stock_assets_tests.cli.conftest import wait_until
from stock_assets_tests.service.conftest import Service


def figures(client: httpx.Client) -> dict[str, dict[tuple[str, ...], float]]:
    """Read every sample: its name, then its labels but for buckets."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def lines_of(running: Service, answers: Sequence[httpx.Response]) -> dict[str, dict[str, Any]]:
    """What the log says of answers, by their ids; a line may come after its answer."""
    ids = {answer.headers["x-request-id"] for answer in answers}

    def found() -> dict[str, dict[str, Any]]:
        return {line["request_id"]: line for line in running.log_lines()}

    wait_until(lambda: ids <= set(found()), 10, "the requests are in the log")
    return found()


@pytest.mark.slow
def test_every_answer_has_an_id_which_the_log_has_too(running: Service, client: httpx.Client):
    asked = [client.get("/tickers"), client.get("/none"), client.get("/tickers?x=1")]
    ids = [answer.headers["x-request-id"] for answer in asked]
    assert len(set(ids)) == 3
    lines = lines_of(running, asked)
    assert [lines[each]["status"] for each in ids] == [200, 404, 422]
    told = lines[ids[2]]
    assert told.keys() == {
        *("at", "request_id", "client", "method", "path", "query", "status", "bytes", "ms")
    }
    assert (told["method"], told["path"], told["query"]) == ("GET", "/tickers", "x=1")
    assert told["client"] == "127.0.0.1"
    assert lines[ids[0]]["bytes"] == len(asked[0].content)


@pytest.mark.slow
def test_the_id_of_a_proxy_is_kept_if_it_is_sound(client: httpx.Client):
    def id_for(told: str) -> str:
        return client.get("/healthz", headers={"X-Request-ID": told}).headers["x-request-id"]

    assert id_for("proxy-1.a_b") == "proxy-1.a_b"
    for told in ("two words", "a" * 65, "", '{"a":1}'):
        assert re.fullmatch("[0-9a-f]{32}", id_for(told))


@pytest.mark.slow
def test_a_path_cannot_write_lines_of_the_log(running: Service, client: httpx.Client):
    answer = client.get('/a%0A{"forged":1}%0D%1b[31m')
    assert answer.status_code == 404
    line = lines_of(running, [answer])[answer.headers["x-request-id"]]
    assert line["path"] == '/a\n{"forged":1}\r\x1b[31m'
    assert not any("forged" in line for line in running.log_lines())


@pytest.mark.slow
def test_requests_are_counted_by_route_and_never_by_what_was_written(client: httpx.Client):
    before = figures(client)["stock_assets_requests_total"]
    for ticker in ("IBM", "MSFT", "NONE", "OTHER"):
        client.get(f"/historical_context_chart/{ticker}")
    client.get("/no/such/address")
    client.request("SPAM", "/tickers")
    after = figures(client)

    def more(method: str, route: str, status: str) -> float:
        key = (method, route, status)
        return after["stock_assets_requests_total"][key] - before.get(key, 0)

    chart = "/historical_context_chart/{ticker}"
    assert more("GET", chart, "200") == 2
    assert more("GET", chart, "404") == 2
    assert more("GET", "none", "404") == 1
    routes = {labels[1] for labels in after["stock_assets_requests_total"]}
    assert not any(written in route for route in routes for written in ("IBM", "NONE", "such"))
    assert {labels[0] for labels in after["stock_assets_requests_total"]} <= {
        *("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "OTHER")
    }
    assert after["stock_assets_request_seconds_count"]["GET", chart] >= 4


@pytest.mark.slow
def test_the_figures_tell_how_new_the_data_are(client: httpx.Client):
    health = client.get("/api/v1/health").json()
    told = figures(client)
    assert told["stock_assets_database_up"] == {(): 1}
    for name in ("newest_session", "newest_forecast", "newest_score"):
        (seconds,) = told[f"stock_assets_{name}_timestamp_seconds"].values()
        assert datetime.fromtimestamp(seconds, UTC).date().isoformat() == health[name]
    assert told["stock_assets_quarantined_bars"] == {(): health["quarantined_bars"]}
    assert told["process_resident_memory_bytes"][()] > 0


def test_figures_without_a_database_say_so(caplog: pytest.LogCaptureFixture):
    away = create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    families = {family.name: family for family in Metrics(away).registry.collect()}
    assert families["stock_assets_database_up"].samples[0].value == 0
    assert "stock_assets_newest_session_timestamp_seconds" not in families
    assert "did not answer" in caplog.text


def ask(app: Any, metrics: Metrics) -> list[dict[str, Any]]:
    """Send one request to an application behind the middleware; the messages it sent."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        **{"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []},
        **{"client": ("10.0.0.1", 1)},
    }
    asyncio.run(Observed(app, metrics)(scope, receive, send))
    return sent


async def fail(*_: Any) -> None:
    raise RuntimeError("a secret")


async def fail_halfway(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await fail()


def test_a_failure_is_a_problem_without_its_text(engine: Engine, caplog: pytest.LogCaptureFixture):
    metrics = Metrics(engine)
    start, body = ask(fail, metrics)
    headers = dict(start["headers"])
    assert start["status"] == 500
    assert headers[b"content-type"] == b"application/problem+json"
    assert b"secret" not in body["body"]
    assert headers[b"x-request-id"] in body["body"]
    assert "RuntimeError: a secret" in caplog.text
    assert headers[b"x-request-id"].decode() in caplog.text
    counted = metrics.registry.get_sample_value(
        "stock_assets_requests_total", {"method": "GET", "route": "none", "status": "500"}
    )
    assert counted == 1


def test_half_an_answer_is_never_completed_by_another(engine: Engine):
    with pytest.raises(RuntimeError):
        ask(fail_halfway, Metrics(engine))
