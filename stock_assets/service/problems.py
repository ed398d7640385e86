"""Errors as RFC 9457 problems; the text of an exception never leaves the server."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg2 import InterfaceError as DriverInterfaceError
from psycopg2 import OperationalError as DriverOperationalError
from psycopg2 import ProgrammingError as DriverProgrammingError
from psycopg2.errors import UndefinedColumn, UndefinedTable
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError, TimeoutError
from starlette.exceptions import HTTPException

from stock_assets.config.prices import TICKER
from stock_assets.storage.serving.tickers import name_since_rename

PROBLEM = "application/problem+json"
RETRY_SECONDS = 5

# COPY goes through the driver directly and raises its exceptions.
_UNAVAILABLE = OperationalError, InterfaceError, DriverOperationalError, DriverInterfaceError


class InvalidPart(BaseModel):
    """An invalid part of a request: its location and the reason."""

    where: str
    why: str


class Problem(BaseModel):
    """Body of every error response (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field("", examples=["no prices are stored for ticker NONE"])
    errors: list[InvalidPart] = []


def problem_response(
    status: int,
    detail: str = "",
    errors: list[InvalidPart] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Create an error response."""
    title = HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=detail, errors=errors or [])
    return JSONResponse(
        body.model_dump(exclude_defaults=True) | {"type": body.type},
        status_code=status,
        media_type=PROBLEM,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def not_found(detail: str) -> HTTPException:
    """Create a 404 to raise; `detail` is shown to the client."""
    return HTTPException(HTTPStatus.NOT_FOUND, detail)


def unknown_ticker(engine: Engine, ticker: str) -> HTTPException:
    """Create a 404 to raise for a ticker without prices; it names the new name after a rename."""
    detail = f"no prices are stored for ticker {ticker}"
    renamed = name_since_rename(engine, ticker) if TICKER.fullmatch(ticker) else None
    if renamed is not None:
        detail += f", renamed to {renamed[0]} on {renamed[1]}"
    return not_found(detail)


_CONTENT = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
ANY_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {"description": "Any error", "content": _CONTENT}
}
"""``responses=`` of the application."""

NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"description": "Not Found", "content": _CONTENT}
}
"""``responses=`` of a route that can answer 404."""


def problem_schemas() -> dict[str, Any]:
    """Return the schemas of a problem for the components of an OpenAPI document."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Problem": schema}


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""

    @app.exception_handler(HTTPException)
    async def _http_error(_: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, HEAD"
        return problem_response(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid_request(_: Request, error: RequestValidationError) -> Response:
        invalid = [
            InvalidPart(where=".".join(map(str, part["loc"])), why=part["msg"])
            for part in jsonable_encoder(error.errors())
        ]
        return problem_response(422, "the request is invalid", invalid)

    for kind in _UNAVAILABLE:
        app.add_exception_handler(kind, _database_unavailable)
    for kind in (ProgrammingError, DriverProgrammingError):
        app.add_exception_handler(kind, _schema_mismatch)
    app.add_exception_handler(TimeoutError, _no_free_connection)


async def _database_unavailable(_: Request, __: Exception) -> Response:
    return _retry_later("the database is not available")


async def _no_free_connection(_: Request, __: Exception) -> Response:
    return _retry_later("too many requests at once")


async def _schema_mismatch(_: Request, error: Exception) -> Response:
    """Answer 503 for missing tables or columns; any other wrong statement is a failure."""
    if not isinstance(getattr(error, "orig", error), UndefinedTable | UndefinedColumn):
        raise error
    return _retry_later("the database schema does not match this version")


def _retry_later(detail: str) -> Response:
    return problem_response(503, detail, headers={"Retry-After": str(RETRY_SECONDS)})
