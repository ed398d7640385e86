"""Compare the record with itself: links, histories and tables, row by row and column by column.

The digest of a link covers the link before it and the rows that it wrote; tables are compared with
their histories. So any change that was not made through :mod:`stock_assets.storage.record` breaks a
digest or a comparison. Only the loss of the newest links leaves an unbroken chain; the links that
runs saw reveal it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, false, func, select, text

from stock_assets.core.text import truncate
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record import FIRST_DIGEST, PLAIN_TEXT, link_digest
from stock_assets.storage.record_faults import Fault, KnownHead
from stock_assets.storage.record_rows import check_effects, check_history, check_table
from stock_assets.storage.tables import record_links

_SHOWN_RUNS = 20
_SESSION_COLUMNS = ("session", "as_of_session", "ex_date")
_TABLE_GUARDS = (
    {"record_insert"},
    {"record_update", "refuse_change"},
    {"record_delete", "refuse_change"},
    {"refuse_truncate"},
)
_APPEND_ONLY_GUARDS = ({"refuse_row_changes"}, {"refuse_statement_changes"})
"""The triggers of tables and of histories; of each set, one is enough."""


@dataclass(frozen=True)
class Step:
    """A part of the walk: its name, and a function that finds its faults."""

    name: str
    find: Callable[[], Iterator[Fault]]


def record_steps(connection: Connection, heads: Sequence[KnownHead] = ()) -> list[Step]:
    """Return the steps that check the record, those first on which later ones rely.

    Parameters
    ----------
    connection : Connection
        In a transaction that sees one state, such as a repeatable read.
    heads : sequence of KnownHead
        The newest links that runs saw.
    """
    connection.execute(PLAIN_TEXT)
    # Python reads JSON's null as None, like the empty value that links without lost ones have.
    is_null = func.coalesce(func.jsonb_typeof(record_links.c.lost_links) == "null", false())
    links = connection.execute(
        select(record_links, is_null.label("has_json_null")).order_by(record_links.c.link)
    ).all()
    intact = [link for link in links if _has_digest(link)]
    return [
        Step("guards", lambda: _check_guards(connection)),
        Step("links", lambda: _check_links(connection, links, heads)),
        Step("known links", lambda: _check_heads(links, heads)),
        *(
            Step(history.name, lambda table=table: check_history(connection, table, intact))  # type: ignore[misc]
            for table, history in HISTORIES.items()
        ),
        *(
            Step(table.name, lambda table=table: check_table(connection, table))  # type: ignore[misc]
            for table in HISTORIES
        ),
        Step("dividends and splits", lambda: check_effects(connection)),
    ]


def check_tables(connection: Connection, names: Collection[str]) -> Iterator[Fault]:
    """Yield the faults of the links, and of some recorded tables and their histories.

    Parameters
    ----------
    connection : Connection
        See :func:`record_steps`.
    names : collection of str
        Names of recorded tables.
    """
    wanted = {"links"} | {
        name
        for table, history in HISTORIES.items()
        for name in (table.name, history.name)
        if table.name in names
    }
    for step in record_steps(connection):
        if step.name in wanted:
            yield from step.find()


def _has_digest(link: Row[Any]) -> bool:
    return not link.has_json_null and link_digest(link) == link.digest


def _check_guards(connection: Connection) -> Iterator[Fault]:
    """Find triggers that are missing or disabled: without them rows change unrecorded."""
    active = text(
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A')"
    )
    enabled: dict[str, set[str]] = {}
    for table, trigger in connection.execute(active):
        enabled.setdefault(table, set()).add(trigger)
    expected = {
        **dict.fromkeys(HISTORIES, _TABLE_GUARDS),
        **dict.fromkeys(HISTORIES.values(), (*_APPEND_ONLY_GUARDS, {"require_open_link"})),
        record_links: _APPEND_ONLY_GUARDS,
    }
    for table, guards in expected.items():
        for guard in guards:
            if not guard & enabled.get(table.name, set()):
                message = f"the trigger {min(guard)} of {table.name} is missing or disabled"
                yield Fault("guards", message, table.name)


def _check_links(
    connection: Connection, links: Sequence[Row[Any]], heads: Sequence[KnownHead]
) -> Iterator[Fault]:
    """Find missing links, and links that are not as they were written."""
    orphans = _orphans(connection)
    known = {link.link for link in links}
    numbers = known | orphans.keys()
    before: Row[Any] | None = None
    for number, link in _with_holes(links):
        if link is None:
            first, last = number
            missing = [n for n in sorted(orphans) if first <= n <= last]
            evidence = [text for n in missing for text in orphans[n]]
            yield _hole(first, last, evidence + _runs(heads, first, last))
            continue
        follows = before is not None and before.link + 1 == link.link
        yield from _check_link(link, before if follows else None)
        before = link
    newest = max(known, default=0)
    for number in sorted(n for n in numbers - known if n > newest or n < 1):
        yield _hole(number, number, orphans[number] + _runs(heads, number, number))
    if not links and any(connection.scalar(select(table).limit(1)) for table in HISTORIES):
        yield Fault("links", "rows are stored, but the chain has no link", record_links.name)


def _with_holes(links: Sequence[Row[Any]]) -> Iterator[tuple[Any, Row[Any] | None]]:
    """Yield each link with its number, and each hole, as first and last number, with None."""
    number = 0
    for link in links:
        if link.link > number + 1:
            yield (number + 1, link.link - 1), None
        yield link.link, link
        number = link.link


def _hole(first: int, last: int, evidence: Sequence[str]) -> Fault:
    which = f"link {first} is" if first == last else f"links {first} to {last} are"
    described = "; ".join(evidence) or "no trace of it is left"
    return Fault("links", f"{which} missing: {described}", record_links.name, link=first)


def _runs(heads: Sequence[KnownHead], first: int, last: int) -> list[str]:
    """Name the runs that saw links from `first` to `last`."""
    found = {(head.link, head.run_id): head for head in heads if first <= head.link <= last}
    return [
        f"link {head.link} was the newest when run {head.run_id} materialized {head}"
        for head in found.values()
    ]


def _orphans(connection: Connection) -> dict[int, list[str]]:
    """Describe the rows of histories whose link is missing, by its number."""
    found: dict[int, list[str]] = {}
    for table, history in HISTORIES.items():
        names = history.c.keys()
        session = next((name for name in _SESSION_COLUMNS if name in names), None)
        span = f"min({session})::text, max({session})::text" if session else "NULL, NULL"
        run = "dagster_run_id" if "dagster_run_id" in names else "NULL::text"
        rows = connection.execute(
            text(
                f"SELECT link, count(*), {span}, string_agg(DISTINCT {run}, ', ') "
                f"FROM {history.name} h WHERE NOT EXISTS "
                "(SELECT FROM record_links r WHERE r.link = h.link) GROUP BY link"
            )
        )
        for link, count, first, last, runs in rows:
            sessions = f" of {first} to {last}" if first else ""
            by = f", of run {runs}" if runs else ""
            described = f"it wrote {count:,} rows of {table.name}{sessions}{by}"
            found.setdefault(link, []).append(described)
    return found


def _check_link(link: Row[Any], before: Row[Any] | None) -> Iterator[Fault]:
    """Compare a link with its digest, and with the link before it where that is there."""

    def fault(message: str, column: str) -> Fault:
        described = f"link {link.link}, of {link.written_at:%Y-%m-%d %H:%M:%S} UTC: {message}"
        return Fault(
            "links", described, record_links.name, {"link": str(link.link)}, column, link.link
        )

    if not _has_digest(link):
        yield fault("its content does not have its digest", "digest")
    if link.link == 1 and link.previous != FIRST_DIGEST:
        yield fault("it names a link before it, and is the first", "previous")
    if before is None:
        return
    if link.previous != before.digest:
        yield fault(f"it names another digest of link {before.link}", "previous")
    if link.written_at <= before.written_at:
        yield fault(f"it is not later than link {before.link}", "written_at")


def lost_heads(links: Sequence[Row[Any]], heads: Sequence[KnownHead]) -> list[KnownHead]:
    """Return what runs have seen of links that the record lacks, in the order of the links.

    Links that an intact one accepts as lost are left out.
    """
    known = {(link.link, link.digest) for link in links}
    for link in links:
        if link.lost_links and link_digest(link) == link.digest:
            known |= {(lost["link"], lost["digest"]) for lost in link.lost_links}
    return sorted(
        (head for head in heads if (head.link, head.digest) not in known),
        key=lambda head: (head.link, str(head)),
    )


def _check_heads(links: Sequence[Row[Any]], heads: Sequence[KnownHead]) -> Iterator[Fault]:
    """Find links that runs have seen, and that are missing at the end or are others now."""
    lost = lost_heads(links, heads)
    if not lost:
        return
    first, last = lost[0].link, lost[-1].link
    which = f"link {first}" if first == last else f"links {first} to {last}"
    present = {link.link for link in links}
    again = " (written again since)" if first in present else ""
    seen = [f"{head} (link {head.link}, run {head.run_id})" for head in lost]
    message = (
        f"the record lacks {which}{again}, as after the restoration of an older backup; lost are "
        f"{'; '.join(truncate(seen, _SHOWN_RUNS))}. Restore the newer backup; or run these again, "
        "and accept the loss: stock-assets verify --accept-restore --why TEXT"
    )
    yield Fault("runs", message, record_links.name, link=first)
