"""What is noted of every request: an id, a line in the log, and figures for Prometheus."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from datetime import time as clock

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stock_assets.service.problems import problem_response
from stock_assets.storage.serving.freshness import read_freshness

ID_HEADER = "X-Request-ID"

_SOUND_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

access = logging.getLogger("stock_assets.service.access")
errors = logging.getLogger("stock_assets.service.errors")


class Metrics:
    """The figures of one application, in a registry of its own."""

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
            "Time until the whole answer was sent.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(DataFigures(engine))
        ProcessCollector(registry=self.registry)


class DataFigures(Collector):
    """How new the data are, asked for whenever the figures are."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Ask nothing of the database when this is registered."""
        yield GaugeMetricFamily("stock_assets_database_up", "Whether the database answers.")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the gauges; only that the database is away, where it is."""
        up = GaugeMetricFamily("stock_assets_database_up", "Whether the database answers.")
        try:
            found = read_freshness(self._engine)
        except SQLAlchemyError:
            errors.warning("the database did not answer when the figures were asked for")
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        for name, told, session in (
            ("newest_session", "Newest session that a bar is stored of", found.newest_session),
            ("newest_forecast", "Newest as-of session of a forecast", found.newest_forecast),
            ("newest_score", "Newest session whose forecasts are scored", found.newest_score),
        ):
            if session is not None:
                yield GaugeMetricFamily(
                    f"stock_assets_{name}_timestamp_seconds",
                    f"{told}, at midnight UTC.",
                    _midnight(session),
                )
        yield GaugeMetricFamily(
            "stock_assets_quarantined_bars", "Bars kept back.", found.quarantined_bars
        )


def _midnight(session: date) -> float:
    return datetime.combine(session, clock(), tzinfo=UTC).timestamp()


class Observed:
    """Middleware: every request has an id, is counted and logged, and fails as a problem."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        started = time.perf_counter()
        status, size = 0, 0

        async def note(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = request_id
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception:
            errors.exception("request %s failed", request_id)
            if status:  # half an answer is on its way: the server ends the connection
                raise
            await problem_response(500, f"tell the request id {request_id}")(scope, receive, note)
        finally:
            self._note(scope, request_id, status, size, time.perf_counter() - started)

    def _note(self, scope: Scope, request_id: str, status: int, size: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = _template(scope)
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
        access.info(json.dumps(line))


def _request_id(scope: Scope) -> str:
    """Keep the id that a proxy gave, if it is a sound one; else make one."""
    given = Headers(scope=scope).get(ID_HEADER, "")
    return given if _SOUND_ID.fullmatch(given) else uuid.uuid4().hex


def _template(scope: Scope) -> str:
    """Give the route's own path, so that what clients write never makes a new series."""
    return getattr(scope.get("route"), "path", None) or "none"
