"""Asking the API, and what the tables hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import httpx
from sqlalchemy import Engine, text

API = "/api/v1"


def ask(client: httpx.Client, path: str, **parameters: Any) -> Any:
    """Ask for an answer, which must be a good one."""
    answer = client.get(f"{API}{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def walk(client: httpx.Client, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """Walk a list to its end."""
    items: list[dict[str, Any]] = []
    page = ask(client, path, **parameters)
    while True:
        items += page["items"]
        assert page["items"] or page["next"] is None
        if page["next"] is None:
            return items
        page = ask(client, path, **parameters, cursor=page["next"])


def refuse(client: httpx.Client, path: str, status: int, **parameters: Any) -> dict[str, Any]:
    """Ask for what is refused, with a problem."""
    answer = client.get(f"{API}{path}", params=parameters)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    return problem


def rows(engine: Engine, query: str, **values: object) -> list[dict[str, Any]]:
    """Ask the database itself."""
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def require_row(told: Mapping[str, Any], row: Mapping[str, Any], *but: str) -> None:
    """Require that an item holds, under the names of the columns, what a row holds."""
    names = told.keys() - {*but}
    assert names <= row.keys()
    for name in names:
        assert _same(told[name], row[name]), name


def _same(told: Any, held: Any) -> bool:
    if isinstance(held, datetime):
        return datetime.fromisoformat(told) == held
    if isinstance(held, date):
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", told)) and date.fromisoformat(told) == held
    return bool(told == held)
