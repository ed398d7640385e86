"""The record: an append-only account of every change of the recorded tables, chained by digests.

A recorded table holds the newest state. Beside it, ``{table}_history`` keeps every state that a row
has had, with the number of the link that wrote it: triggers append to it, and refuse any change of
it. A link is one transaction. It names what was written, table by table, with a digest of the rows,
and the digest of the link before it. All writers wait for one lock, so that links are numbered and
timed in the order of commits, and what was known at a moment can be read again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    Select,
    Table,
    Text,
    exists,
    false,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import distinct_on

from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import write_moment
from stock_assets.core.progress import bar
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.tables import record_links

FIRST_DIGEST = "0" * 64
"""Previous digest of the first link."""

ADOPTED = "rows that were stored before there was a record"
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('stock_assets.record'))")
_WAIT_FOR_WRITERS = text("SELECT pg_advisory_xact_lock_shared(hashtext('stock_assets.record'))")
PLAIN_TEXT = text(
    "SET LOCAL timezone TO 'UTC'; SET LOCAL datestyle TO 'ISO, YMD'; "
    "SET LOCAL extra_float_digits TO 1"
)
"""Settings of a transaction that make PostgreSQL's text of values equal on every server."""

_TICK = timedelta(microseconds=1)
_CLOCK_TOLERANCE = timedelta(seconds=1)
_is_recording = ContextVar("is_recording", default=False)
_log = logging.getLogger(__name__)


class UnknownMomentError(StockAssetsError):
    """A moment at which nothing is known: in the future, or earlier than the record."""


@dataclass(frozen=True)
class Link:
    """One transaction of the record.

    Attributes
    ----------
    number : int
        1 for the first, without gaps.
    written_at : datetime
        When its rows became known, UTC; later than that of the link before.
    digest : str
        SHA-256 of the link, see :func:`link_digest`.
    """

    number: int
    written_at: datetime
    digest: str


@contextmanager
def recording(
    engine: Engine,
    dagster_run_id: str | None = None,
    note: str | None = None,
    lost_links: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Connection]:
    """Open a transaction that may write recorded tables, and add its link when it ends.

    One such transaction runs at a time. If nothing is written, no link is added. The SQL function
    ``record_time()`` returns the time of the link. Rows that were stored before there was a record
    enter it first, with a link of their own.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    dagster_run_id : str, optional
        The run that writes.
    note : str, optional
        The reason, where no run states it.
    lost_links : sequence of mapping
        Number and digest of links that a person accepts as lost; a link is added for them.

    Raises
    ------
    StockAssetsError
        A history has rows of links that do not exist yet: the record was bypassed.
    """
    if _is_recording.get():
        raise RuntimeError("recording() was called within recording(), which would wait for itself")
    token = _is_recording.set(True)
    try:
        with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            opened = _open(connection)
            if opened.link == 1 and _adopt(connection):
                _close(connection, opened, None, ADOPTED, ())
                opened = _open(connection)
            yield connection
            _close(connection, opened, dagster_run_id, note, lost_links)
    finally:
        _is_recording.reset(token)


def adopt(engine: Engine) -> None:
    """Record the rows already stored in a first link, if there is no record yet."""
    with recording(engine):
        pass


def head(engine: Engine) -> Link | None:
    """Return the newest link; None before the first."""
    return _read_link(engine, select(record_links).order_by(record_links.c.link.desc()).limit(1))


def find_link(engine: Engine, number: int) -> Link | None:
    """Return the link with a number, or None."""
    return _read_link(engine, select(record_links).where(record_links.c.link == number))


def _read_link(engine: Engine, query: Select[Any]) -> Link | None:
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Link(row.link, row.written_at, row.digest)


def link_at(engine: Engine, known_at: datetime) -> int:
    """Return the number of the newest link at a moment.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    known_at : datetime
        With a time zone, not in the future.

    Raises
    ------
    UnknownMomentError
        The moment is in the future, or earlier than the record.
    """
    if known_at.tzinfo is None:
        raise StockAssetsError(
            f"{known_at} has no time zone", f"Write it with one: {known_at.isoformat()}Z"
        )
    links = record_links.c
    found = select(
        func.max(links.link).filter(links.written_at <= known_at).label("number"),
        func.min(links.written_at).label("first"),
        func.coalesce(func.max(links.written_at) >= known_at, false()).label("is_past"),
        func.greatest(func.clock_timestamp(), func.max(links.written_at)).label("now"),
    )
    with engine.begin() as connection:
        row = connection.execute(found).one()
        if not row.is_past:
            # A transaction that is writing now may have an earlier time.
            connection.execute(_WAIT_FOR_WRITERS)
            row = connection.execute(found).one()
    if known_at > row.now:
        raise UnknownMomentError(
            f"{write_moment(known_at)} is in the future",
            f"Choose a moment up to {write_moment(row.now)}",
        )
    number, first = row.number, row.first
    if number is not None:
        return int(number)
    if first is None:
        raise UnknownMomentError(
            "nothing is stored yet", "Store prices first: stock-assets backfill raw_prices"
        )
    raise UnknownMomentError(
        f"nothing is known at {write_moment(known_at)}: the record begins at {write_moment(first)}",
        "Choose a later moment",
    )


def as_known(table: Table, link: int) -> Select[tuple[Any, ...]]:
    """Select the rows of a recorded table as they were at a link, ordered by the key.

    The columns are those of the history, see :func:`recorded_columns`. Conditions on the key, such
    as ``query.where(query.selected_columns.ticker == ...)``, are applied by PostgreSQL before it
    looks for the newest state of each row.
    """
    history = HISTORIES[table]
    key = [history.c[name] for name in key_columns(history)]
    newest = (
        select(history)
        .where(history.c.link <= link)
        .ext(distinct_on(*key))
        .order_by(*key, history.c.link.desc())
        .subquery(table.name)
    )
    return select(*(newest.c[name] for name in recorded_columns(history))).where(~newest.c.removed)


def key_columns(history: Table) -> list[str]:
    """Return the key that a history shares with its table."""
    return [column.name for column in history.primary_key if column.name != "link"]


def recorded_columns(history: Table) -> list[str]:
    """Return the columns that a history shares with its table."""
    return [column.name for column in history.c if column.name not in ("link", "removed")]


def link_digest(row: Row[Any] | Mapping[str, Any]) -> str:
    """Compute the SHA-256 of a link: of everything in its row but the digest."""
    values = row if isinstance(row, Mapping) else row._mapping
    content = [
        values["link"],
        values["written_at"].astimezone(UTC).isoformat(timespec="microseconds"),
        values["dagster_run_id"],
        values["note"],
        values["tables"],
        values["previous"],
    ]
    if values["lost_links"] is not None:  # a column newer than the first links
        content.append(values["lost_links"])
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def row_digests(
    connection: Connection, history: Table, columns: Sequence[str], first: int, last: int
) -> dict[int, tuple[int, str]]:
    """Compute the number of rows and their SHA-256, of each link from `first` to `last`.

    The digest is of PostgreSQL's own text of the rows, in the order of the key.
    """
    names = ", ".join(f'"{name}"' for name in ("link", *columns))
    # The order of text must not depend on the locale of the server.
    order = ", ".join(
        f'"{name}" COLLATE "C"' if isinstance(history.c[name].type, Text) else f'"{name}"'
        for name in ("link", *key_columns(history))
    )
    digests = _LineDigests()
    connection.execute(PLAIN_TEXT)
    connection.connection.cursor().copy_expert(
        f"COPY (SELECT {names} FROM {history.name} "
        f"WHERE link BETWEEN {int(first)} AND {int(last)} ORDER BY {order}) "
        "TO STDOUT WITH (ENCODING 'UTF8')",
        digests,
    )
    return digests.result()


class _LineDigests:
    """A file that hashes lines, one hash per number in the first column."""

    def __init__(self) -> None:
        self._rest = b""
        self._counts: dict[int, int] = {}
        self._hashes: dict[int, Any] = {}

    def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            number, _, content = line.partition(b"\t")
            link = int(number)
            if link not in self._hashes:
                self._counts[link], self._hashes[link] = 0, hashlib.sha256()
            self._counts[link] += 1
            self._hashes[link].update(content + b"\n")

    def result(self) -> dict[int, tuple[int, str]]:
        return {n: (self._counts[n], h.hexdigest()) for n, h in self._hashes.items()}


def _open(connection: Connection) -> Row[Any]:
    """Lock the record and give this transaction the number and the time of its link."""
    connection.execute(_LOCK)
    links = record_links
    newest = connection.execute(select(links).order_by(links.c.link.desc()).limit(1)).one_or_none()
    clock: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    written_at = clock if newest is None else max(clock, newest.written_at + _TICK)
    if written_at - clock > _CLOCK_TOLERANCE:
        _log.warning(
            "the clock of the database is %s behind link %d: set it if it is wrong; if it was "
            "ahead at that link, forecasts are marked backfilled until it has passed %s",
            written_at - clock,
            newest.link if newest else 0,
            write_moment(written_at),
        )
    number, previous = (1, FIRST_DIGEST) if newest is None else (newest.link + 1, newest.digest)
    beyond = _written_tables(connection, number)
    if beyond:
        raise StockAssetsError(
            f"{beyond[0].name}_history has rows of link {number}, which does not exist yet: the "
            "record was bypassed",
            "Find them: stock-assets verify",
        )
    return connection.execute(
        text(
            "SELECT set_config('stock_assets.link', CAST(:number AS text), true), "
            "set_config('stock_assets.written_at', CAST(:written_at AS text), true), "
            "CAST(:number AS bigint) AS link, CAST(:written_at AS timestamptz) AS written_at, "
            "CAST(:previous AS text) AS previous"
        ),
        {"number": number, "written_at": written_at.isoformat(), "previous": previous},
    ).one()


def _adopt(connection: Connection) -> bool:
    """Copy the rows of all recorded tables into their histories; return whether there are any."""
    counts = [select(func.count()).select_from(table).scalar_subquery() for table in HISTORIES]
    stored = sum(connection.execute(select(*counts)).one())
    if not stored:
        return False
    work = f"entering {stored:,} rows into the record"
    _log.info("%s", work)
    with bar(None, work, stored) as progress:
        for table, history in HISTORIES.items():
            names = recorded_columns(history)
            rows = select(*(table.c[name] for name in names), func.open_link(), false())
            statement = insert(history).from_select([*names, "link", "removed"], rows)
            progress.update(connection.execute(statement).rowcount)
    _log.info("entered %s rows into the record", f"{stored:,}")
    return True


def _close(
    connection: Connection,
    opened: Row[Any],
    dagster_run_id: str | None,
    note: str | None,
    lost_links: Sequence[Mapping[str, Any]],
) -> None:
    """Store the link, if rows were written or lost links are accepted."""
    tables = {}
    for table in _written_tables(connection, opened.link):
        history = HISTORIES[table]
        columns = [*recorded_columns(history), "removed"]
        found = row_digests(connection, history, columns, opened.link, opened.link)
        rows, digest = found[opened.link]
        tables[table.name] = {"columns": columns, "rows": rows, "digest": digest}
    if not tables and not lost_links:
        return
    row = {
        "link": opened.link,
        "written_at": opened.written_at,
        "dagster_run_id": dagster_run_id,
        "note": note,
        "tables": tables,
        "lost_links": [dict(link) for link in lost_links] or None,
        "previous": opened.previous,
    }
    connection.execute(insert(record_links), row | {"digest": link_digest(row)})


def _written_tables(connection: Connection, number: int) -> list[Table]:
    """Return the tables whose histories have rows of a link or of later ones."""
    written = (exists().where(history.c.link >= number) for history in HISTORIES.values())
    flags = connection.execute(select(*written)).one()
    return [table for table, flag in zip(HISTORIES, flags, strict=True) if flag]
