"""Types of query parameters, and pages of a list."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from starlette.exceptions import HTTPException

from stock_assets.config.prices import TICKER
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import parse_moment
from stock_assets.service.app_state import QueryParams
from stock_assets.service.problems import not_found
from stock_assets.storage.serving.paging import Position

_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DIGITS = re.compile(r"\d{1,10}", re.ASCII)
_LARGEST_INTEGER = 2**31 - 1


def _iso_day(value: object) -> object:
    """Reject Unix times and dates with hours, which pydantic accepts as dates."""
    if isinstance(value, str) and not _ISO_DAY.fullmatch(value):
        raise PydanticCustomError("day", "A day is written as 2013-03-01")
    return value


def _moment(value: object) -> object:
    """Reject Unix times and times without a zone."""
    if not isinstance(value, str):
        return value
    try:
        return parse_moment(value)
    except StockAssetsError:
        raise PydanticCustomError(
            "moment", "A moment has a time zone: 2026-11-30T21:00:00Z"
        ) from None


def _whole(value: object) -> object:
    """Reject 1.0, 1_000 and surrounding blanks, which pydantic accepts as integers."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise PydanticCustomError("whole", "A whole number has only digits")
    return value


def _true_or_false(value: object) -> object:
    """Reject yes, on and 1, which pydantic accepts as booleans."""
    if isinstance(value, str) and value not in ("true", "false"):
        raise PydanticCustomError("flag", "A flag is true or false")
    return value


Day = Annotated[date, BeforeValidator(_iso_day)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
Flag = Annotated[bool, BeforeValidator(_true_or_false)]
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_whole)]
WindowLength = Annotated[int, Field(ge=1, le=2520), BeforeValidator(_whole)]
ModelVersion = Annotated[int, Field(ge=0, le=_LARGEST_INTEGER), BeforeValidator(_whole)]
LinkNumber = Annotated[int, Field(ge=1, le=2**63 - 1)]
IssueNumber = Annotated[int, Field(ge=1, le=_LARGEST_INTEGER), BeforeValidator(_whole)]
Horizon = Annotated[int, Field(ge=1, le=_LARGEST_INTEGER), BeforeValidator(_whole)]
Ticker = Annotated[str, Field(pattern=f"^{TICKER.pattern}$", max_length=32)]
DatasetId = Annotated[str, Field(pattern=r"^[0-9]{8}_[0-9]{6}$")]
Cursor = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+={0,2}$", max_length=400)]
Kind = TypeVar("Kind")


class _WithoutNull:
    """Omits null from the schema: a query string has none."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        kind: JsonSchemaValue = handler(schema)["anyOf"][0]
        return kind


OptionalParam = Annotated[Kind | None, _WithoutNull()]
"""A parameter that may be omitted."""

Tickers = Annotated[list[Ticker], Field(max_length=50)]

Item = TypeVar("Item", bound="ResponseModel")


def invalid_cursor() -> HTTPException:
    """Create a 404 to raise for a cursor that is not one of the list."""
    return not_found("the cursor is invalid; start without one")


class PageParams(QueryParams):
    """Parameters of every list."""

    limit: Limit = Field(100, description="Maximum items per page.", examples=[100])
    cursor: OptionalParam[Cursor] = Field(
        None,
        description="Start of the page: `next` of the previous page, with the same parameters.",
    )

    def position(self, kind: TypeAdapter[Any]) -> Any:
        """Decode the cursor: the position of the last row of the previous page, None on the first.

        Raises
        ------
        HTTPException
            404: the cursor is not one of this list.
        """
        if self.cursor is None:
            return None
        try:
            return kind.validate_json(base64.urlsafe_b64decode(self.cursor))
        except ValueError:  # invalid base64 or invalid JSON
            raise invalid_cursor() from None


class ResponseModel(BaseModel):
    """Part of a response, validated from a row; other columns are ignored."""

    model_config = ConfigDict(frozen=True)


class Page(ResponseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item] = Field(description="Items, in the order of the list.")
    next: str | None = Field(
        description="`cursor` of the next page; null on the last page.",
        examples=["WyIyMDEzLTAzLTAxIiwiQUFQTCIsMSwxXQ=="],
    )


PageOf = TypeVar("PageOf", bound=Page[Any])


def page_of(
    kind: type[PageOf],
    rows: Sequence[Mapping[str, Any]],
    query: PageParams,
    order: Sequence[str],
    **others: Any,
) -> PageOf:
    """Build a page.

    Parameters
    ----------
    kind : type
        Class of the page.
    rows : sequence of rows
        The next ``query.limit + 1`` rows of the list, or fewer at its end.
    query : PageParams
        The request.
    order : sequence of str
        The columns that order the list.
    **others
        Other fields of the page.
    """
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    cursor = _cursor(tuple(shown[-1][name] for name in order)) if more else None
    return kind.model_validate({"items": shown, "next": cursor, **others})


_ANY_POSITION: TypeAdapter[Position] = TypeAdapter(tuple[Any, ...])


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(_ANY_POSITION.dump_json(position)).decode()
