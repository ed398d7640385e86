"""Answers as bytes, given again as long as the data are the same."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from fastapi import Request, Response
from pydantic import BaseModel
from sqlalchemy import Engine, text

from stock_assets.market.calendar import utc_now

JSON = "application/json"
HTML = "text/html; charset=utf-8"

_STAMP_SECONDS = 1.0
_WORTH_PACKING = 1024
# Of a table of five hundred rows, 9 packs a hundredth more and takes four times as long.
_PACKING = 5
_OVERHEAD = 1024
_TURNS = 64

# The snapshot changes with every transaction that wrote something, whatever it wrote, and shows
# exactly what is committed; the start of the server tells two servers apart.
_STAMP = text("SELECT pg_current_snapshot()::text || ' ' || pg_postmaster_start_time()::text")


_Asked = tuple[str, bytes]


class DatabaseAwayError(Exception):
    """The database did not answer less than a second ago."""


@dataclass(frozen=True)
class Body:
    """One rendered answer: its bytes, the same with gzip where that pays, and its ETag."""

    plain: bytes
    packed: bytes | None
    etag: str


class ResponseCache:
    """Rendered answers by path and query, least recently used ones dropped first.

    An answer is given again while the stamp of the data is the same. The stamp is asked for at most
    once a second, so an answer is never older than that.

    Parameters
    ----------
    engine : Engine
        The database that the answers are made from.
    room : int
        Bytes that may be kept.
    """

    def __init__(self, engine: Engine, room: int) -> None:
        self._engine, self._room = engine, room
        self._kept: OrderedDict[_Asked, tuple[str, Body]] = OrderedDict()
        self._size = 0
        self._lock = Lock()
        self._turns = [Lock() for _ in range(_TURNS)]
        self._stamp_lock = Lock()
        self._stamp: str | None = None
        self._asked_at = -_STAMP_SECONDS

    def json(self, request: Request, make: Callable[[], BaseModel]) -> Response:
        """Answer with a model as JSON, made only if the data changed since it was last asked for.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError, DatabaseAwayError
            The database does not answer.
        """
        return self._answer(request, JSON, lambda: make().model_dump_json().encode())

    def page(self, request: Request, make: Callable[[], str]) -> Response:
        """Answer with a page, as :meth:`json` does with a model."""
        return self._answer(request, HTML, lambda: make().encode())

    def stamp(self) -> str:
        """Say which state the data are in: equal stamps, equal answers."""
        with self._stamp_lock:
            if time.monotonic() - self._asked_at >= _STAMP_SECONDS:
                self._stamp = None
                try:
                    with self._engine.connect() as connection:
                        self._stamp = str(connection.scalar(_STAMP))
                finally:
                    self._asked_at = time.monotonic()
            if self._stamp is None:
                raise DatabaseAwayError
            # What an answer says of lateness depends on the clock too.
            return f"{self._stamp} {utc_now():%Y-%m-%dT%H:%M}"

    def _answer(self, request: Request, media_type: str, make: Callable[[], bytes]) -> Response:
        # Not the address as a text, in which a path could pass for a query, or a host for a path.
        body = self._body((request.scope["path"], request.scope["query_string"]), make)
        headers = {"ETag": body.etag, "Vary": "Accept-Encoding", "Cache-Control": "no-cache"}
        if _holds(request.headers.get("if-none-match", ""), body.etag):
            return Response(status_code=304, headers=headers)
        content = body.plain
        if body.packed is not None and accepts_gzip(request.headers.get("accept-encoding", "")):
            content = body.packed
            headers["Content-Encoding"] = "gzip"
        return Response(content, media_type=media_type, headers=headers)

    def _body(self, key: _Asked, make: Callable[[], bytes]) -> Body:
        stamp = self.stamp()
        if (body := self._find(key, stamp)) is not None:
            return body
        with self._turns[hash(key) % _TURNS]:  # one request makes it while the others wait
            if (body := self._find(key, stamp)) is not None:
                return body
            body = _body_of(make())
            self._keep(key, stamp, body)
            return body

    def _find(self, key: _Asked, stamp: str) -> Body | None:
        with self._lock:
            if (kept := self._kept.get(key)) is None or kept[0] != stamp:
                return None
            self._kept.move_to_end(key)
            return kept[1]

    def _keep(self, key: _Asked, stamp: str, body: Body) -> None:
        with self._lock:
            if (before := self._kept.pop(key, None)) is not None:
                self._size -= _size(key, before[1])
            self._kept[key] = stamp, body
            self._size += _size(key, body)
            while self._size > self._room:
                longest_unused, (_, dropped) = self._kept.popitem(last=False)
                self._size -= _size(longest_unused, dropped)


def _size(asked: _Asked, body: Body) -> int:
    """Bytes that an answer takes to keep."""
    return sum(map(len, asked)) + len(body.plain) + len(body.packed or b"") + _OVERHEAD


def _body_of(plain: bytes) -> Body:
    worth = len(plain) >= _WORTH_PACKING
    packed = gzip.compress(plain, _PACKING, mtime=0) if worth else None
    return Body(plain, packed, f'W/"{hashlib.sha256(plain).hexdigest()[:32]}"')


def _holds(if_none_match: str, etag: str) -> bool:
    """Whether a client has the answer of this tag already."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag.removeprefix("W/") in tags or "*" in tags


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the value of an ``Accept-Encoding`` header allows gzip."""
    for choice in accept_encoding.lower().split(","):
        coding, _, parameter = (part.strip() for part in choice.partition(";"))
        if coding in ("gzip", "*"):
            weight = parameter.removeprefix("q=")
            return not parameter or weight.strip("0.") != ""
    return False
