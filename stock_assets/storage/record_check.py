"""Compare the record with itself: links, histories and tables, row by row and column by column.

A link vouches for the link before it and for the rows that it wrote, the histories for the tables.
So any change that was not made through :mod:`stock_assets.storage.record` breaks a digest or a
comparison, and is found here. Only the loss of the newest links leaves an unbroken chain; what was
told elsewhere of the newest link, a :class:`KnownHead`, reveals it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import Connection, Row, Table, select, text

from stock_assets.market.bars import BAR_COLUMNS, tidy
from stock_assets.market.corporate_actions import KIND_OF, attach
from stock_assets.storage.database import copy_out
from stock_assets.storage.prices import read_actions
from stock_assets.storage.record import (
    FIRST_DIGEST,
    PLAIN_TEXT,
    as_known,
    key_columns,
    link_digest,
    recorded_columns,
    row_digests,
)
from stock_assets.storage.tables import HISTORIES, raw_stock_data, record_links

_SESSION_COLUMNS = ("session", "as_of_session", "ex_date")
_TABLE_GUARDS = ("record_insert", "record_update", "record_delete", "refuse_truncate")
_HISTORY_GUARDS = ("keep_history", "refuse_truncate")
_SHOWN = 60
_ALL_LINKS = 2**62


@dataclass(frozen=True)
class Fault:
    """A place where the record does not hold.

    Attributes
    ----------
    part : str
        What was checked: guards, links, histories, tables, arrays, models or runs.
    message : str
        What is wrong, for people.
    table : str, optional
        The table, a history by its own name.
    key : dict, optional
        The key of the row, as text.
    column : str, optional
        The first column that differs.
    link : int, optional
        The link whose rows or digest are wrong, or the first that is missing.
    file : str, optional
        The array file, or the model version.
    """

    part: str
    message: str
    table: str | None = None
    key: Mapping[str, str] | None = None
    column: str | None = None
    link: int | None = None
    file: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class KnownHead:
    """The newest link of the record when a run materialized an asset.

    Attributes
    ----------
    link : int
    digest : str
    run_id : str
    asset : str
        With the partition, such as ``raw_prices 2013-02-01``.
    """

    link: int
    digest: str
    run_id: str
    asset: str


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
        What runs have known of the record.
    """
    connection.execute(PLAIN_TEXT)
    links = connection.execute(select(record_links).order_by(record_links.c.link)).all()
    intact = [link for link in links if link_digest(link) == link.digest]
    return [
        Step("guards", lambda: _check_guards(connection)),
        Step("links", lambda: _check_links(connection, links, heads)),
        Step("known links", lambda: _check_heads(links, heads)),
        *(
            Step(history.name, lambda table=table: _check_history(connection, table, intact))  # type: ignore[misc]
            for table, history in HISTORIES.items()
        ),
        *(
            Step(table.name, lambda table=table: _check_table(connection, table))  # type: ignore[misc]
            for table in HISTORIES
        ),
        Step("dividends and splits", lambda: _check_effects(connection)),
    ]


def _check_guards(connection: Connection) -> Iterator[Fault]:
    """Find triggers that are missing or disabled: without them rows change unrecorded."""
    active = text(
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A')"
    )
    enabled = {tuple(row) for row in connection.execute(active)}
    expected = {name.name: _TABLE_GUARDS for name in HISTORIES} | {
        name.name: _HISTORY_GUARDS for name in (*HISTORIES.values(), record_links)
    }
    for table, guards in expected.items():
        for guard in guards:
            if (table, guard) not in enabled:
                yield Fault("guards", f"the trigger {guard} of {table} is not active", table)


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
            told = [text for n in missing for text in orphans[n]] + _runs(heads, first, last)
            yield _hole(first, last, told)
            continue
        follows = before is not None and before.link + 1 == link.link
        yield from _check_link(link, before if follows else None)
        before = link
    newest = max(known, default=0)
    for number in sorted(n for n in numbers - known if n > newest or n < 1):
        yield _hole(number, number, orphans[number] + _runs(heads, number, number))
    if not links and any(connection.scalar(select(table).limit(1)) for table in HISTORIES):
        yield Fault("links", "rows are stored, and not one link", record_links.name)


def _with_holes(links: Sequence[Row[Any]]) -> Iterator[tuple[Any, Row[Any] | None]]:
    """Yield each link with its number, and each hole, as first and last number, with None."""
    number = 0
    for link in links:
        if link.link > number + 1:
            yield (number + 1, link.link - 1), None
        yield link.link, link
        number = link.link


def _hole(first: int, last: int, told: Sequence[str]) -> Fault:
    which = f"link {first} is" if first == last else f"links {first} to {last} are"
    evidence = "; ".join(told) or "nothing else is known of it"
    return Fault("links", f"{which} missing: {evidence}", record_links.name, link=first)


def _runs(heads: Sequence[KnownHead], first: int, last: int) -> list[str]:
    """Name the runs that saw links from `first` to `last`."""
    found = {(head.link, head.run_id): head for head in heads if first <= head.link <= last}
    return [
        f"link {head.link} was the newest when run {head.run_id} materialized {head.asset}"
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

    if link_digest(link) != link.digest:
        yield fault("its content does not have its digest", "digest")
    if link.link == 1 and link.previous != FIRST_DIGEST:
        yield fault("it names a link before it, and is the first", "previous")
    if before is None:
        return
    if link.previous != before.digest:
        yield fault(f"it names another digest of link {before.link}", "previous")
    if link.written_at <= before.written_at:
        yield fault(f"it is not later than link {before.link}", "written_at")


def _check_heads(links: Sequence[Row[Any]], heads: Sequence[KnownHead]) -> Iterator[Fault]:
    """Find links that runs have seen, and that are missing at the end or are others now."""
    digests = {link.link: link.digest for link in links}
    newest = max(digests, default=0)
    last = max((head.link for head in heads), default=0)
    if last > newest:
        which = f"link {last}" if last == newest + 1 else f"links {newest + 1} to {last}"
        message = (
            f"the record ends at link {newest}; {which} are missing, as after the restoration of "
            f"an older backup: {'; '.join(_runs(heads, newest + 1, last))}"
        )
        yield Fault("runs", message, record_links.name, link=newest + 1)
    seen = {(head.link, head.digest): head for head in heads if head.link in digests}
    for (number, digest), head in sorted(seen.items()):
        if digests[number] != digest:
            message = (
                f"link {number} had another digest when run {head.run_id} materialized "
                f"{head.asset}: it was written again"
            )
            yield Fault("runs", message, record_links.name, {"link": str(number)}, "digest", number)


def _check_history(
    connection: Connection, table: Table, links: Sequence[Row[Any]]
) -> Iterator[Fault]:
    """Compare the rows that each link wrote with the digest that it names."""
    history = HISTORIES[table]
    columns = _columns(connection, history)
    recorded = {link.link: _recorded(link, table) for link in links}
    for names, first, last in _spans(recorded, [*recorded_columns(history), "removed"]):
        lost = [name for name in names if name not in columns]
        if lost:
            message = f"{history.name} has no column {lost[0]}, which link {first} wrote"
            yield Fault("histories", message, history.name, None, lost[0], first)
            continue
        found = row_digests(connection, history, names, first, last)
        for number in range(first, last + 1):
            if number not in recorded:
                continue  # a hole, or a link without its digest
            then, now = recorded[number], found.get(number)
            if then != (None if now is None else (names, *now)):
                yield _changed(connection, table, number, then, now)
        yield from _later_columns(connection, history, [*columns - {*names, "link"}], first, last)


_Recorded = tuple[Sequence[str], int, str]


def _recorded(link: Row[Any], table: Table) -> _Recorded | None:
    """Return the columns, number and digest of the rows that a link wrote; None without any."""
    written = link.tables.get(table.name) if isinstance(link.tables, dict) else None
    if not isinstance(written, dict):
        return None
    return written.get("columns", ()), written.get("rows", 0), written.get("digest", "")


def _spans(
    recorded: Mapping[int, _Recorded | None], columns: Sequence[str]
) -> Iterator[tuple[Sequence[str], int, int]]:
    """Yield spans of links whose rows have the same columns: they were written by one version."""
    writing = [(number, written[0]) for number, written in recorded.items() if written]
    starts = [
        (next(numbers)[0], names) for names, numbers in groupby(writing, key=lambda pair: pair[1])
    ]
    if not recorded:
        return
    first, end = min(recorded), max(recorded) + 1
    starts = starts or [(first, columns)]
    starts[0] = (first, starts[0][1])
    for (start, names), (stop, _) in pairwise([*starts, (end, columns)]):
        yield names, start, stop - 1


def _changed(
    connection: Connection,
    table: Table,
    number: int,
    then: _Recorded | None,
    now: tuple[int, str] | None,
) -> Fault:
    """Describe rows that a link did not write so; name one where the table still differs."""
    history = HISTORIES[table].name
    rows = (0 if then is None else then[1]), (0 if now is None else now[0])
    if rows[0] != rows[1]:
        message = f"link {number} wrote {rows[0]:,} rows of {table.name}, {history} has {rows[1]:,}"
    else:
        message = f"the rows of link {number} in {history} do not have the digest that it names"
    near = next(_check_table(connection, table, number), None)
    if near is None:
        return Fault("histories", message, history, link=number)
    return Fault("histories", f"{message}: {near.message}", history, near.key, near.column, number)


def _later_columns(
    connection: Connection, history: Table, columns: Sequence[str], first: int, last: int
) -> Iterator[Fault]:
    """Find values in columns that did not exist yet when links wrote their rows."""
    for name in columns:
        number = connection.scalar(
            text(
                f'SELECT min(link) FROM {history.name} WHERE "{name}" IS NOT NULL '
                "AND link BETWEEN :first AND :last"
            ),
            {"first": first, "last": last},
        )
        if number is not None:
            message = f"rows of link {number} in {history.name} have a {name}, which is newer"
            yield Fault("histories", message, history.name, None, name, number)


def _columns(connection: Connection, table: Table) -> set[str]:
    """Return the columns that a table has in the database."""
    query = text("SELECT column_name FROM information_schema.columns WHERE table_name = :name")
    return set(connection.scalars(query, {"name": table.name}))


def _check_table(connection: Connection, table: Table, link: int | None = None) -> Iterator[Fault]:
    """Compare the rows of a table with the newest of its history (with those of one link)."""
    history = HISTORIES[table]
    key, names = key_columns(history), recorded_columns(history)
    newest = as_known(table, _ALL_LINKS).compile(connection, compile_kwargs={"literal_binds": True})
    both = [f't."{n}"::text, h."{n}"::text' for n in names]
    whole = [f"ROW({', '.join(f'{side}.{n}' for n in names)})::text" for side in "th"]
    same = " AND ".join(f't."{n}" = h."{n}"' for n in key)
    order = ", ".join(f'coalesce(t."{n}", h."{n}")' for n in key)
    of_link = (
        ""
        if link is None
        else f"AND EXISTS (SELECT FROM {history.name} w WHERE w.link = {int(link)} AND "
        + " AND ".join(f'w."{n}" = coalesce(t."{n}", h."{n}")' for n in key)
        + ") "
    )
    query = text(
        f'SELECT t.ctid IS NOT NULL, h."{key[0]}" IS NOT NULL, {", ".join(both)} '
        f"FROM {table.name} t FULL JOIN ({newest}) h ON {same} "
        f"WHERE {whole[0]} IS DISTINCT FROM {whole[1]} {of_link}ORDER BY {order}"
    )
    options = {"stream_results": True, "max_row_buffer": 100}
    with connection.execute(query, execution_options=options) as rows:
        for stored, known, *values in rows:
            pairs = dict(zip(names, zip(values[::2], values[1::2], strict=True), strict=True))
            yield _difference(table, key, pairs, stored=stored, known=known)


def _difference(
    table: Table,
    key: Sequence[str],
    pairs: Mapping[str, tuple[str | None, str | None]],
    *,
    stored: bool,
    known: bool,
) -> Fault:
    """Describe a row of a table that is not the newest of its history."""
    named = {name: str(pairs[name][0] if stored else pairs[name][1]) for name in key}
    row = f"{table.name} {' '.join(named.values())}"
    if not known:
        return Fault("tables", f"{row}: the row is not in its history", table.name, named)
    if not stored:
        return Fault("tables", f"{row}: the row is missing", table.name, named)
    column, (now, then) = next((n, pair) for n, pair in pairs.items() if pair[0] != pair[1])
    message = f"{row}: {column} is {_brief(now)}, in its history {_brief(then)}"
    return Fault("tables", message, table.name, named, column)


def _brief(value: str | None) -> str:
    if value is None:
        return "empty"
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


def _check_effects(connection: Connection) -> Iterator[Fault]:
    """Compare the dividends and splits of bars with the actions in effect on them."""
    bars = tidy(copy_out(connection, select(*(raw_stock_data.c[name] for name in BAR_COLUMNS))))
    expected = attach(bars, read_actions(connection))
    for column in KIND_OF:
        for at in bars.index[bars[column] != expected[column]]:
            bar = bars.loc[at]
            key = {"ticker": bar["ticker"], "session": f"{bar['session']:%Y-%m-%d}"}
            message = (
                f"{raw_stock_data.name} {' '.join(key.values())}: {column} is {bar[column]}, by "
                f"the corporate actions {expected.loc[at, column]}"
            )
            yield Fault("tables", message, raw_stock_data.name, key, column)
