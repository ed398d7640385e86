"""Request ids, the request log, and Prometheus metrics."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from datetime import time as clock

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError, TimeoutError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stock_assets.service.problems import problem_response
from stock_assets.storage.serving.freshness import read_freshness

ID_HEADER = "X-Request-ID"

_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

access_log = logging.getLogger("stock_assets.service.access")
error_log = logging.getLogger("stock_assets.service.errors")


class Metrics:
    """The metrics of one application, in their own registry."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "stock_assets_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "stock_assets_request_seconds",
            "Time until the whole response was sent.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(FreshnessCollector(engine))
        ProcessCollector(registry=self.registry)


class FreshnessCollector(Collector):
    """Gauges of how new the data are, read at each scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return nothing, so that registration needs no database."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges; only ``database_up`` while the database is not available.

        No gauge is returned while no connection is free.
        """
        up = "stock_assets_database_up", "Whether the database is available."
        try:
            found = read_freshness(self._engine)
        except TimeoutError:
            error_log.warning("no connection is free for the gauges of the stored data")
            return
        except SQLAlchemyError:
            error_log.warning("the database is not available for metrics")
            yield GaugeMetricFamily(*up, value=0)
            return
        yield GaugeMetricFamily(*up, value=1)
        for name, meaning, session in (
            ("newest_session", "Newest session with a stored bar", found.newest_session),
            ("newest_forecast", "Newest as-of session of a forecast", found.newest_forecast),
            ("newest_score", "Newest scored session", found.newest_score),
        ):
            if session is not None:
                yield GaugeMetricFamily(
                    f"stock_assets_{name}_timestamp_seconds",
                    f"{meaning}, midnight UTC.",
                    datetime.combine(session, clock(), tzinfo=UTC).timestamp(),
                )
        yield GaugeMetricFamily(
            "stock_assets_quarantined_bars", "Bars in quarantine.", found.quarantined_bars
        )


class RequestLog:
    """Middleware: gives each request an id, logs and counts it, and turns failures into 500s."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        started = time.perf_counter()
        status, size = 0, 0

        async def send_counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = request_id
            if scope["method"] != "HEAD":  # its body is never sent
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        except Exception:
            error_log.exception("request %s failed", request_id)
            if status:  # the response has begun: the server closes the connection
                raise
            failure = problem_response(500, f"report the request id {request_id}")
            await failure(scope, receive, send_counted)
        finally:
            self._record(scope, request_id, status, size, time.perf_counter() - started)

    def _record(
        self, scope: Scope, request_id: str, status: int, size: int, seconds: float
    ) -> None:
        # Labels never contain client input: each new value would be a new time series.
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", None) or "none"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id,
            "client": (scope.get("client") or ("",))[0],
            "method": method,
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "status": status,
            "bytes": size,
            "ms": round(seconds * 1000, 1),
        }
        access_log.info(json.dumps(line))


def _request_id(scope: Scope) -> str:
    """Return the id set by a proxy if it is valid, else a new one."""
    given = Headers(scope=scope).get(ID_HEADER, "")
    return given if _VALID_ID.fullmatch(given) else uuid.uuid4().hex
