"""The FastAPI application: routes and middleware."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from stock_assets.service import api, health, legacy, pages
from stock_assets.service.app_state import NO_PARAMS, AppState
from stock_assets.service.pages.problem_pages import ProblemPages
from stock_assets.service.pages.rendering import templates
from stock_assets.service.pages.static_files import mount_static_files
from stock_assets.service.problems import ANY_PROBLEM, add_problem_handlers, problem_schemas
from stock_assets.service.request_metrics import Metrics, RequestLog
from stock_assets.service.security import KEY_HEADER, Guard, ResponseHeaders

_COMPRESSED_FROM_BYTES, _COMPRESSION_LEVEL = 1024, 5


def create_app(state: AppState) -> FastAPI:
    """Create the application."""
    app = FastAPI(
        title="stock_assets",
        version=version("stock-assets"),
        responses=ANY_PROBLEM,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = state
    add_problem_handlers(app)
    for router in (health.router, legacy.router, api.router, pages.router):
        app.include_router(router)
    mount_static_files(app)
    metrics = Metrics(state.engine)

    @app.get("/metrics", include_in_schema=False, dependencies=NO_PARAMS)
    def prometheus_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    # The middleware added last runs first.
    app.add_middleware(_head_as_get)
    app.add_middleware(Guard, settings=state.settings)
    app.add_middleware(RequestLog, metrics=metrics)
    app.add_middleware(ProblemPages, state=state)
    app.add_middleware(
        GZipMiddleware, minimum_size=_COMPRESSED_FROM_BYTES, compresslevel=_COMPRESSION_LEVEL
    )
    app.add_middleware(ResponseHeaders)
    templates()  # compiled now, not during the first request
    app.openapi = cache(lambda: _openapi_document(app))  # type: ignore[method-assign]
    return app


def _head_as_get(app: ASGIApp) -> ASGIApp:
    """Handle HEAD as GET; the server omits the body."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        try:
            await app(as_get, receive, send)
        finally:
            scope["route"] = as_get.get("route")  # a label of the metrics

    return handle


def _openapi_document(app: FastAPI) -> dict[str, Any]:
    """Build the OpenAPI document, with the schemas of problems, which no route returns."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary="Prices, forecasts, scores and decisions, read-only.",
        routes=app.routes,
    )
    document["components"]["schemas"] |= problem_schemas()
    key = {"type": "apiKey", "in": "header", "name": KEY_HEADER}
    document["components"]["securitySchemes"] = {"key": key}
    document["security"] = [{"key": []}, {}]  # a loopback service may run without a key
    return document
