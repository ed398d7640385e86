"""Request ids, the request log, metrics, and failures."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from stock_assets.service.app import create_app
from stock_assets.service.request_metrics import Metrics, RequestLog
from stock_assets_tests.service.conftest import send, state_for, unavailable_engine


@pytest.fixture
def app(engine: Engine) -> FastAPI:
    """An application on an empty database."""
    return create_app(state_for(engine))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The captured request log."""
    caplog.set_level(logging.INFO, "stock_assets.service.access")
    return caplog


def request_lines(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        json.loads(record.message)
        for record in log.records
        if record.name == "stock_assets.service.access"
    ]


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Parse metrics: values by name and labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_each_request_has_an_id_and_a_log_line(app: FastAPI, log: pytest.LogCaptureFixture):
    responses = [send(app, path) for path in ("/tickers", "/none", "/tickers?x=1")]
    ids = [response.headers["x-request-id"] for response in responses]
    assert len(set(ids)) == 3
    lines = request_lines(log)
    assert [line["request_id"] for line in lines] == ids
    assert [line["status"] for line in lines] == [200, 404, 422]
    assert lines[2].keys() == {
        *("at", "request_id", "client", "method", "path", "query", "status", "bytes", "ms")
    }
    assert (lines[2]["method"], lines[2]["path"], lines[2]["query"]) == ("GET", "/tickers", "x=1")
    assert lines[0]["bytes"] == len(responses[0].content)


@pytest.mark.parametrize("value", ["two words", "a" * 65, "", '{"a":1}'])
def test_only_a_valid_request_id_is_kept(app: FastAPI, value: str):
    kept = send(app, "/healthz", **{"X-Request-ID": "proxy-1.a_b"})
    assert kept.headers["x-request-id"] == "proxy-1.a_b"
    replaced = send(app, "/healthz", **{"X-Request-ID": value})
    assert re.fullmatch("[0-9a-f]{32}", replaced.headers["x-request-id"])


def test_path_cannot_forge_log_lines(app: FastAPI, log: pytest.LogCaptureFixture):
    send(app, '/a%0A{"forged":1}%0D%1b[31m')
    (record,) = [r for r in log.records if r.name == "stock_assets.service.access"]
    assert "\n" not in record.message
    assert json.loads(record.message)["path"] == '/a\n{"forged":1}\r\x1b[31m'


def test_requests_are_counted_by_route(app: FastAPI):
    for ticker in ("IBM", "NONE"):
        send(app, f"/historical_context_chart/{ticker}")
    send(app, "/no/such/path")
    send(app, "/tickers", "SPAM")
    found = samples(send(app, "/metrics").text)
    chart = "/historical_context_chart/{ticker}"
    assert found["stock_assets_requests_total"] == {
        ("GET", chart, "404"): 2,
        ("GET", "none", "404"): 1,
        ("OTHER", "/tickers", "405"): 1,
    }
    assert found["stock_assets_request_seconds_count"]["GET", chart] == 2
    limits = {label for labels in found["stock_assets_request_seconds_bucket"] for label in labels}
    assert {"0.001", "0.0025", "0.005"} <= limits


def test_head_is_logged_and_counted_without_a_body(app: FastAPI, log: pytest.LogCaptureFixture):
    send(app, "/tickers", "HEAD")
    (line,) = request_lines(log)
    assert (line["method"], line["status"], line["bytes"]) == ("HEAD", 200, 0)
    found = samples(send(app, "/metrics").text)
    assert found["stock_assets_requests_total"] == {("HEAD", "/tickers", "200"): 1}


def test_metrics_include_the_freshness_of_the_data(client: httpx.Client):
    health = client.get("/api/v1/health").json()
    found = samples(client.get("/metrics").text)
    assert found["stock_assets_database_up"] == {(): 1}
    for name in ("newest_session", "newest_forecast", "newest_score"):
        (seconds,) = found[f"stock_assets_{name}_timestamp_seconds"].values()
        assert datetime.fromtimestamp(seconds, UTC).date().isoformat() == health[name]
    assert found["stock_assets_quarantined_bars"] == {(): health["quarantined_bars"]}
    assert found["process_resident_memory_bytes"][()] > 0


def test_metrics_without_a_database():
    registry = Metrics(unavailable_engine()).registry
    families = {family.name: family for family in registry.collect()}
    assert families["stock_assets_database_up"].samples[0].value == 0
    assert "stock_assets_newest_session_timestamp_seconds" not in families


def run_logged(app: Any, metrics: Metrics) -> list[dict[str, Any]]:
    """Send one request through the middleware; return the messages sent back."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def collect(message: Any) -> None:
        sent.append(message)

    scope = {
        **{"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []},
        **{"client": ("10.0.0.1", 1)},
    }
    asyncio.run(RequestLog(app, metrics)(scope, receive, collect))
    return sent


async def fail(*_: Any) -> None:
    raise RuntimeError("a secret")


async def fail_halfway(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await fail()


def test_failure_is_a_problem_with_the_request_id(engine: Engine, caplog: pytest.LogCaptureFixture):
    metrics = Metrics(engine)
    start, body = run_logged(fail, metrics)
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


def test_failure_after_the_response_began_closes_the_connection(engine: Engine):
    with pytest.raises(RuntimeError):
        run_logged(fail_halfway, Metrics(engine))
