"""The application: its routes, and what every request passes through."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stock_assets.service import api, health, legacy, pages
from stock_assets.service.app_state import TAKES_NOTHING, AppState
from stock_assets.service.head import HeadAsGet
from stock_assets.service.pages.problem_pages import ProblemPages
from stock_assets.service.pages.rendering import templates
from stock_assets.service.problems import ANY, problem_schemas, tell_problems
from stock_assets.service.request_metrics import Metrics, Observed
from stock_assets.service.security import KEY_HEADER, Guard, SecurityHeaders


def create_app(served: AppState) -> FastAPI:
    """Make the application that answers from `served`."""
    app = FastAPI(
        title="stock_assets",
        version=version("stock-assets"),
        responses=ANY,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.served = served
    tell_problems(app)
    for router in (health.router, legacy.router, api.router, pages.router):
        app.include_router(router)
    metrics = Metrics(served.engine)

    @app.get("/metrics", include_in_schema=False, dependencies=TAKES_NOTHING)
    def figures() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    # The last one added is the first that a request meets.
    app.add_middleware(HeadAsGet)
    app.add_middleware(Guard, settings=served.settings)
    app.add_middleware(Observed, metrics=metrics)
    app.add_middleware(ProblemPages, served=served)
    app.add_middleware(SecurityHeaders)
    templates()  # read now, so that nobody waits for it
    app.openapi = cache(lambda: _document(app))  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """Describe the API; errors have a body of their own kind, which routes do not return."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary="Forecasts, prices and what became of them; nothing here can be changed.",
        routes=app.routes,
    )
    document["components"]["schemas"] |= problem_schemas()
    key = {"type": "apiKey", "in": "header", "name": KEY_HEADER}
    document["components"]["securitySchemes"] = {"key": key}
    document["security"] = [{"key": []}, {}]  # a service on its own machine may ask for none
    return document
