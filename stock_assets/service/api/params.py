"""What a request may ask with: the kinds of its parameters, and pages of a list."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from stock_assets.config.prices import TICKER
from stock_assets.service.app_state import QueryParams
from stock_assets.service.problems import not_found
from stock_assets.storage.serving.paging import Position

_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WHOLE = re.compile(r"\d{1,10}", re.ASCII)
_LARGEST_INTEGER = 2**31 - 1


def _iso_day(value: object) -> object:
    """Refuse what pydantic would take for a date as well: seconds since 1970, dates with hours."""
    if isinstance(value, str) and not _ISO_DAY.fullmatch(value):
        raise PydanticCustomError("day", "A day is written as in 2013-03-01")
    return value


def _whole(value: object) -> object:
    """Refuse what pydantic would take for an integer as well: 1.0, 1_000 and blanks about it."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise PydanticCustomError("whole", "A whole number has digits alone")
    return value


def _true_or_false(value: object) -> object:
    """Refuse what pydantic would take for a boolean as well: yes, on, 1."""
    if isinstance(value, str) and value not in ("true", "false"):
        raise PydanticCustomError("flag", "It is either true or false")
    return value


Day = Annotated[date, BeforeValidator(_iso_day)]
Flag = Annotated[bool, BeforeValidator(_true_or_false)]
Limit = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_whole)]
WindowLength = Annotated[int, Field(ge=1, le=2520), BeforeValidator(_whole)]
ModelVersion = Annotated[int, Field(ge=1, le=_LARGEST_INTEGER), BeforeValidator(_whole)]
Horizon = Annotated[int, Field(ge=1, le=_LARGEST_INTEGER), BeforeValidator(_whole)]
Ticker = Annotated[str, Field(pattern=f"^{TICKER.pattern}$", max_length=32)]
DatasetId = Annotated[str, Field(pattern=r"^[0-9]{8}_[0-9]{6}$")]
Cursor = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+={0,2}$", max_length=400)]
Kind = TypeVar("Kind")


class _WithoutNull:
    """Describes what may be left out by its kind alone: in an address there is no null."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        kind: JsonSchemaValue = handler(schema)["anyOf"][0]
        return kind


OptionalParam = Annotated[Kind | None, _WithoutNull()]
"""A parameter that may be left out."""

Tickers = Annotated[list[Ticker], Field(max_length=50)]

Item = TypeVar("Item", bound="ResponseModel")


class PageParams(QueryParams):
    """Parameters of every list."""

    limit: Limit = Field(100, description="Items on a page at most.", examples=[100])
    cursor: OptionalParam[Cursor] = Field(
        None,
        description="Where the page begins: `next` of the page before. The other parameters stay "
        "as they were.",
    )

    def position(self, kind: TypeAdapter[Any]) -> Any:
        """Read the cursor as the position of the row before; None at the beginning.

        Raises
        ------
        HTTPException
            404: no page of this list gave the cursor.
        """
        if self.cursor is None:
            return None
        try:
            return kind.validate_json(base64.urlsafe_b64decode(self.cursor))
        except ValueError:  # of either: what is decoded is no position, or nothing can be decoded
            raise not_found("there is no page under this cursor; begin without one") from None


class ResponseModel(BaseModel):
    """Part of an answer, made from a row of the database; what it does not name is left out."""

    model_config = ConfigDict(frozen=True)


class Page(ResponseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item] = Field(description="The items, in the order of the list.")
    next: str | None = Field(
        description="`cursor` of the page after this one; null on the last page.",
        examples=["WyIyMDEzLTAzLTAxIiwiQUFQTCIsMSwxXQ=="],
    )


PageOf = TypeVar("PageOf", bound=Page[Any])


def page_of(
    kind: type[PageOf],
    rows: Sequence[Mapping[str, Any]],
    asked: PageParams,
    order: Sequence[str],
    **others: Any,
) -> PageOf:
    """Lay out one page from up to one row more than it holds.

    Parameters
    ----------
    kind : type
        What the page is.
    rows : sequence of rows
        The next ``asked.limit + 1`` rows of the list, as far as there are any.
    asked : PageParams
        What was asked for.
    order : sequence of str
        The columns that the list is ordered by.
    **others
        What the page tells besides its items.
    """
    shown = rows[: asked.limit]
    further = len(rows) > asked.limit
    after = _cursor(tuple(shown[-1][name] for name in order)) if further else None
    return kind.model_validate({"items": [dict(row) for row in shown], "next": after, **others})


_PLAIN: TypeAdapter[Position] = TypeAdapter(tuple[Any, ...])


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(_PLAIN.dump_json(position)).decode()
