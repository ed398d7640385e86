"""Errors as RFC 9457 problems: what a client may know, and never the text of an exception."""

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
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError, TimeoutError
from starlette.exceptions import HTTPException

from stock_assets.service.response_cache import DatabaseAwayError

PROBLEM = "application/problem+json"
RETRY_SECONDS = 5

# COPY is the driver's own, and so are its errors.
_AWAY = (
    *(DatabaseAwayError, OperationalError, InterfaceError, TimeoutError),
    *(DriverOperationalError, DriverInterfaceError),
)


class WrongPart(BaseModel):
    """One part of a request that is wrong: where it stands, and why."""

    where: str
    why: str


class Problem(BaseModel):
    """The body of every error (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field("", examples=["no prices are stored of a ticker called NONE"])
    errors: list[WrongPart] = []


def problem_response(
    status: int,
    detail: str = "",
    errors: list[WrongPart] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Make the answer that tells of an error."""
    title = HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=detail, errors=errors or [])
    return JSONResponse(
        body.model_dump(exclude_defaults=True) | {"type": body.type},
        status_code=status,
        media_type=PROBLEM,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def not_found(detail: str) -> HTTPException:
    """Make the error to raise where what was asked for does not exist; `detail` is shown."""
    return HTTPException(HTTPStatus.NOT_FOUND, detail)


def tells(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe, for ``responses=`` of a route, problems of its own; :data:`ANY` is told of all."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": _CONTENT}
        for status in statuses
    }


_CONTENT = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
ANY: dict[int | str, dict[str, Any]] = {
    "default": {"description": "Any error", "content": _CONTENT}
}
"""For ``responses=`` of the application."""


def problem_schemas() -> dict[str, Any]:
    """Describe the body of a problem, for the components of an OpenAPI document."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Problem": schema}


def tell_problems(app: FastAPI) -> None:
    """Make every error of an application a problem."""

    @app.exception_handler(HTTPException)
    async def _refused(_: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        return problem_response(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        wrong = [
            WrongPart(where=".".join(map(str, part["loc"])), why=part["msg"])
            for part in jsonable_encoder(error.errors())
        ]
        return problem_response(422, "the request is not one that this address answers", wrong)

    for kind in _AWAY:
        app.add_exception_handler(kind, _away)
    for kind in (ProgrammingError, DriverProgrammingError):
        app.add_exception_handler(kind, _unprepared)


async def _away(_: Request, __: Exception) -> Response:
    return _not_now("the database does not answer")


async def _unprepared(_: Request, error: Exception) -> Response:
    """Tell of tables that are not those of this version; any other wrong query is a failure."""
    if not isinstance(getattr(error, "orig", error), UndefinedTable | UndefinedColumn):
        raise error
    return _not_now("the database does not have the tables of this version")


def _not_now(detail: str) -> Response:
    return problem_response(503, detail, headers={"Retry-After": str(RETRY_SECONDS)})
