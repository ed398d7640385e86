"""Compare the rows of histories with the digests of links, and those of tables with histories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import Connection, Row, Table, select, text

from stock_assets.market.bars import BAR_COLUMNS, tidy
from stock_assets.market.corporate_actions import KIND_OF, attach
from stock_assets.storage.database import copy_out
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.prices import read_actions
from stock_assets.storage.record import as_known, key_columns, recorded_columns, row_digests
from stock_assets.storage.record_faults import Fault
from stock_assets.storage.tables import raw_stock_data

_SHOWN = 60
_ALL_LINKS = 2**62


def check_history(
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
    """Describe changed rows of a link; name one where the table still differs."""
    history = HISTORIES[table].name
    rows = (0 if then is None else then[1]), (0 if now is None else now[0])
    if rows[0] != rows[1]:
        message = f"link {number} wrote {rows[0]:,} rows of {table.name}, {history} has {rows[1]:,}"
    else:
        message = f"the rows of link {number} in {history} do not have the digest that it names"
    near = next(check_table(connection, table, number), None)
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
            message = (
                f"rows of link {number} in {history.name} have a value in {name}, a column added "
                "later"
            )
            yield Fault("histories", message, history.name, None, name, number)


def _columns(connection: Connection, table: Table) -> set[str]:
    """Return the columns that a table has in the database."""
    query = text("SELECT column_name FROM information_schema.columns WHERE table_name = :name")
    return set(connection.scalars(query, {"name": table.name}))


def check_table(connection: Connection, table: Table, link: int | None = None) -> Iterator[Fault]:
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


def check_effects(connection: Connection) -> Iterator[Fault]:
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
