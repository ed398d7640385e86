"""Keyset pagination: each row appears once, even if rows are added between pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Engine, Select, UnaryExpression, and_, or_

Row = dict[str, Any]
"""A row by its column names."""

Position = tuple[Any, ...]
"""Values of the ordering columns at one row."""

Order = Sequence[ColumnElement[Any]]
"""Columns that identify a row; descending ones as ``column.desc()``."""

Comparison = tuple[ColumnElement[Any], Callable[[Any, Any], Any], Any]
"""A column, an operator and a value; no condition when the value is None."""


def conditions(*comparisons: Comparison) -> list[ColumnElement[bool]]:
    """Build the conditions of a query."""
    return [compare(column, value) for column, compare, value in comparisons if value is not None]


def read_page(
    engine: Engine, query: Select[Any], order: Order, size: int, after: Position | None
) -> list[Row]:
    """Read the next rows of a list.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    query : Select
        The list.
    order : Order
        Its order.
    size : int
        Rows at most.
    after : tuple, optional
        Position of the last row of the previous page; None for the first page.
    """
    if after is not None:
        query = query.where(_beyond(order, after))
    return read_rows(engine, query.order_by(*order).limit(size))


def read_rows(engine: Engine, query: Any) -> list[Row]:
    """Read all rows of a query."""
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def read_frame(engine: Engine, query: Any, parameters: Any = None) -> pd.DataFrame:
    """Read all rows of a query into a frame; dates stay Python's own."""
    with engine.connect() as connection:
        found = connection.execute(query, parameters)
        return pd.DataFrame(found.fetchall(), columns=list(found.keys()))


def records(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame as dicts, with None for what is missing."""
    known = frame.astype(object).where(frame.notna(), None)
    rows: list[Row] = known.to_dict("records")  # type: ignore[assignment]
    return rows


def _beyond(order: Order, position: Position) -> ColumnElement[bool]:
    """Select the rows after a position; the condition on the first column uses its index."""
    first = _columns(order)[0]
    reached = first <= position[0] if _descends(order[0]) else first >= position[0]
    further = [
        and_(*(column == value for column, value in before), _past(order[place], position[place]))
        for place in range(len(order))
        for before in [list(zip(_columns(order), position, strict=True))[:place]]
    ]
    return and_(reached, or_(*further))


def _past(key: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    (column,) = _columns([key])
    beyond: ColumnElement[bool] = column < value if _descends(key) else column > value
    return beyond


def _columns(order: Order) -> list[ColumnElement[Any]]:
    return [key.element if isinstance(key, UnaryExpression) else key for key in order]


def _descends(key: ColumnElement[Any]) -> bool:
    return isinstance(key, UnaryExpression)
