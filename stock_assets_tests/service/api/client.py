"""Requests to the API, and the rows that it should return."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import httpx
from sqlalchemy import Engine, text

API = "/api/v1"


def get(client: httpx.Client, path: str, **parameters: Any) -> Any:
    """Request a path that must succeed; return its JSON."""
    response = client.get(f"{API}{path}", params=parameters)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def get_all(client: httpx.Client, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """Follow a list to its last page; return all items."""
    items: list[dict[str, Any]] = []
    page = get(client, path, **parameters)
    while True:
        items += page["items"]
        assert page["items"] or page["next"] is None
        if page["next"] is None:
            return items
        page = get(client, path, **parameters, cursor=page["next"])


def get_problem(client: httpx.Client, path: str, status: int, **parameters: Any) -> dict[str, Any]:
    """Request a path that must fail with a status; return the problem."""
    response = client.get(f"{API}{path}", params=parameters)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    return problem


def select(engine: Engine, query: str, **values: object) -> list[dict[str, Any]]:
    """Read rows from the database."""
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def assert_row(item: Mapping[str, Any], row: Mapping[str, Any], *ignored: str) -> None:
    """Assert that an item holds the values of a row under the names of its columns."""
    names = item.keys() - {*ignored}
    assert names <= row.keys()
    for name in names:
        assert _equal(item[name], row[name]), name


def _equal(value: Any, stored: Any) -> bool:
    if isinstance(stored, datetime):
        return datetime.fromisoformat(value) == stored
    if isinstance(stored, date):
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value)) and date.fromisoformat(value) == stored
    return bool(value == stored)
