"""Faults of Yahoo's answers, each made from the correct answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
OPENING = time(9, 30)


@dataclass(frozen=True)
class Reply:
    """One answer: nothing but a closed connection where ``body`` is None."""

    status: int
    body: str | None
    late: bool = False


Fault = Callable[[Reply], Reply]
"""Turns the correct answer into the one that is sent."""


def status(code: int, body: str = "") -> Fault:
    """Answer with a status and a body."""
    return lambda _: Reply(code, body)


def edited(change: Callable[[dict[str, Any]], object]) -> Fault:
    """Change the one result in the chart, in place."""

    def fault(sound: Reply) -> Reply:
        content = json.loads(str(sound.body))
        change(content["chart"]["result"][0])
        return replace(sound, body=json.dumps(content))

    return fault


def explained(code: str, description: str) -> str:
    """Write an error in the form of Yahoo's chart endpoint."""
    return json.dumps(
        {"chart": {"result": None, "error": {"code": code, "description": description}}}
    )


limited = status(429, "Too Many Requests")
down = status(503, "<html>Will be right back...</html>")
apologetic = status(200, "<html>Will be right back...</html>")
html = status(200, "<html>Welcome to the hotel's network</html>")
empty = status(200, '{"chart": {"result": [], "error": null}}')
delisted = status(404, explained("Not Found", "No data found, symbol may be delisted"))


def sound(reply: Reply) -> Reply:
    """Change nothing, in a script with others."""
    return reply


def cut(reply: Reply) -> Reply:
    """Send the first half."""
    body = str(reply.body)
    return replace(reply, body=body[: len(body) // 2])


def dropped(reply: Reply) -> Reply:
    """Close the connection without an answer."""
    return replace(reply, body=None)


def late(reply: Reply) -> Reply:
    """Answer after the timeout."""
    return replace(reply, late=True)


def meta(**values: object) -> Fault:
    """Change the metadata of the answer; None removes a key."""

    def change(result: dict[str, Any]) -> None:
        result["meta"].update(values)
        result["meta"] = {key: value for key, value in result["meta"].items() if value is not None}

    return edited(change)


def without_prices(*sessions: str) -> Fault:
    """Send null for every number of some sessions."""

    def change(result: dict[str, Any]) -> None:
        for position in _positions(result, sessions):
            for values in (*result["indicators"]["quote"][0].values(), adjusted_closes(result)):
                values[position] = None

    return edited(change)


def quote(session: str, column: str, value: float | None) -> Fault:
    """Send another number, or null, in one place."""

    def change(result: dict[str, Any]) -> None:
        [position] = _positions(result, (session,))
        result["indicators"]["quote"][0][column][position] = value

    return edited(change)


def doubled(*sessions: str) -> Fault:
    """Send the rows of some sessions twice."""

    def change(result: dict[str, Any]) -> None:
        quotes = result["indicators"]["quote"][0]
        for position in reversed(_positions(result, sessions)):
            for values in (result["timestamp"], *quotes.values(), adjusted_closes(result)):
                values.insert(position, values[position])

    return edited(change)


def adjusted_closes(result: dict[str, Any]) -> list[float | None]:
    """Find the column of adjusted closes."""
    found: list[float | None] = result["indicators"]["adjclose"][0]["adjclose"]
    return found


def dividends_in(currency: str) -> Fault:
    """Name the currency of the dividends."""

    def change(result: dict[str, Any]) -> None:
        for event in result["events"]["dividends"].values():
            event["currency"] = currency

    return edited(change)


def announced(kind: str, day: str, **values: object) -> Fault:
    """Add an event to the ones that have happened; kind is "dividends" or "splits"."""
    at = opening_of(date.fromisoformat(day))
    return edited(lambda result: result["events"][kind].update({str(at): {"date": at, **values}}))


def opening_of(day: date) -> int:
    """Return the timestamp of the bars and events of a day at Yahoo."""
    return int(datetime.combine(day, OPENING, NEW_YORK).timestamp())


def _positions(result: dict[str, Any], sessions: tuple[str, ...]) -> list[int]:
    stamps = [opening_of(date.fromisoformat(session)) for session in sessions]
    return sorted(result["timestamp"].index(stamp) for stamp in stamps)
