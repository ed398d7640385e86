"""The check of the record: every edit that bypasses it is found and named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Date,
    DateTime,
    Double,
    Engine,
    Integer,
    Table,
    Text,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record import head, key_columns, link_digest, recording
from stock_assets.storage.record_check import record_steps
from stock_assets.storage.record_faults import Fault, KnownHead
from stock_assets.storage.tables import (
    corporate_actions,
    metadata,
    raw_stock_data,
    record_links,
)
from stock_assets_tests.storage.examples import bars, store_bars
from stock_assets_tests.tampering import empty, tampering

RECORD = [*HISTORIES, *HISTORIES.values(), record_links]
OWN_ROWS = (raw_stock_data, corporate_actions)
"""Tables whose rows depend on each other, and are stored as the platform stores them."""

EDITS = {
    Text: "coalesce({0}, '') || 'x'",
    Double: "coalesce({0}, 0) + 1",
    BigInteger: "{0} + 1000",
    Integer: "coalesce({0}, 0) + 1000",
    Boolean: "{0} IS NOT TRUE",
    Date: "coalesce({0}, '2000-01-01') + 1000",
    DateTime: "{0} + interval '1 microsecond'",
    JSONB: "jsonb_build_array({0})",
}
"""Another value of a column, by its type."""


def choices(column: Column[Any]) -> list[str]:
    """The values of a column that has only some; an empty list for any other."""
    rules = [str(c.sqltext) for c in column.constraints if isinstance(c, CheckConstraint)]
    of_column = [rule for rule in rules if rule.startswith(f"{column.name} IN")]
    return re.findall("'(.*?)'", "".join(of_column))


def value(column: Column[Any], number: int) -> Any:
    """A value of a column's type that differs between rows."""
    if chosen := choices(column):
        return chosen[number % len(chosen)]
    values = {
        Text: f"{column.name} {number}",
        Double: number + 0.1,
        BigInteger: number,
        Integer: number,
        Boolean: bool(number % 2),
        Date: date(2013, 1, 1) + timedelta(number),
        DateTime: datetime(2013, 1, 1, number, tzinfo=UTC),
        JSONB: {column.name: number},
    }
    return next(made for kind, made in values.items() if isinstance(column.type, kind))


def rows(table: Table, numbers: Sequence[int]) -> list[dict[str, Any]]:
    filled = [column for column in table.columns if column.server_default is None]
    return [{column.name: value(column, number) for column in filled} for number in numbers]


def edit(column: Column[Any]) -> str:
    if chosen := choices(column):
        return f"CASE {column.name} WHEN '{chosen[0]}' THEN '{chosen[1]}' ELSE '{chosen[0]}' END"
    change = next(made for kind, made in EDITS.items() if isinstance(column.type, kind))
    return change.format(column.name)


def fill(engine: Engine) -> None:
    """Write some links: rows in every table, some of them changed and some removed later."""
    for ticker in "ABC":
        for by in (0.0, 1.0):
            frame = bars(ticker)
            paying = frame["dividends"].where(frame.index % 9 != 4, frame.index / 3 + by)
            changed = frame.assign(close=frame["close"] + by / 2, dividends=paying)
            store_bars(engine, changed, run_id=f"run {ticker} {by}")
    generic = [
        table for table in metadata.sorted_tables if table in HISTORIES and table not in OWN_ROWS
    ]
    with recording(engine, "the first run") as connection:
        for table in generic:
            connection.execute(insert(table), rows(table, range(1, 6)))
    for statement in ("UPDATE {0} SET {1} = {2} WHERE {3}", "DELETE FROM {0} WHERE {3}"):
        with recording(engine, "a later run") as connection:
            for table in reversed(generic):
                key = next(iter(table.primary_key)).name
                changed = next(c for c in table.c if not c.primary_key and c.name in edited(table))
                row = f"{key} = (SELECT max({key}) FROM {table.name})"
                change = text(statement.format(table.name, changed.name, edit(changed), row))
                with suppress(DBAPIError), connection.begin_nested():  # some are append-only
                    connection.execute(change)


def edited(table: Table) -> list[str]:
    """The columns that a later link may change: those that no other table refers to."""
    return [column.name for column in table.columns if not column.foreign_keys]


@pytest.fixture(scope="module")
def record(own_database: str) -> Engine:
    """A database with rows in every recorded table, and an intact record."""
    from stock_assets.storage.database import engine_for

    engine = engine_for(own_database)
    empty(engine)
    fill(engine)
    return engine


@contextmanager
def tampered(engine: Engine) -> Iterator[Connection]:
    """A transaction that bypasses the record and is undone."""
    with tampering(engine) as connection:
        nested = connection.begin_nested()
        yield connection
        nested.rollback()


def faults(
    connection: Connection, heads: Sequence[KnownHead] = (), edited: Table | None = None
) -> list[Fault]:
    """All faults of the record; without the tables other than the edited one, to save time."""
    pair = next((pair for pair in HISTORIES.items() if edited in pair), ())
    others = {t.name for both in HISTORIES.items() for t in both if edited is not None}
    skipped = others - {table.name for table in pair}
    steps = [step for step in record_steps(connection, heads) if step.name not in skipped]
    return [fault for step in steps for fault in step.find()]


def row_of(table: Table, offset: int) -> str:
    """A condition that chooses a row."""
    order = ", ".join(column.name for column in table.primary_key)
    return f"ctid = (SELECT ctid FROM {table.name} ORDER BY {order} LIMIT 1 OFFSET {offset})"


def names(fault: Fault, table: Table) -> bool:
    """Whether a fault names a table, or a missing link that wrote rows of it."""
    written = f"rows of {table.name.removesuffix('_history')}"
    return fault.table == table.name or written in fault.message


def test_an_intact_record_has_no_fault(record: Engine) -> None:
    with record.connect() as connection:
        assert faults(connection) == []
        assert all(connection.scalar(select(table).limit(1)) is not None for table in RECORD)


@pytest.mark.parametrize("table", RECORD, ids=lambda table: table.name)
def test_an_edit_of_any_column_is_found_and_named(record: Engine, table: Table) -> None:
    for column in table.columns:
        with tampered(record) as connection:
            where, change = row_of(table, 1), edit(column)
            statement = f"UPDATE {table.name} SET {column.name} = {change} WHERE {where}"
            assert connection.execute(text(statement)).rowcount == 1
            found = [fault for fault in faults(connection, edited=table) if names(fault, table)]
            assert found, f"the edit of {column.name} was not found"
            if table in HISTORIES and not column.primary_key:
                assert found[0].column == column.name
                assert found[0].key
                assert found[0].key.keys() == set(key_columns(HISTORIES[table]))
            elif table not in HISTORIES:
                assert found[0].link is not None


@pytest.mark.parametrize("offset", [0, 1, "all"])
@pytest.mark.parametrize("table", RECORD, ids=lambda table: table.name)
def test_deleted_rows_are_found(record: Engine, table: Table, offset: int | str) -> None:
    where = "true" if offset == "all" else row_of(table, int(offset))
    with tampered(record) as connection:
        connection.execute(text(f"DELETE FROM {table.name} WHERE {where}"))
        assert any(names(fault, table) for fault in faults(connection, edited=table))


@pytest.mark.parametrize("table", RECORD, ids=lambda table: table.name)
def test_an_inserted_row_is_found(record: Engine, table: Table) -> None:
    for column in table.primary_key:
        changed = {column.name, "written_at"}
        listed = ", ".join(edit(c) if c.name in changed else c.name for c in table.columns)
        into = f"{table.name} ({', '.join(table.columns.keys())})"
        with tampered(record) as connection:
            inserted = f"INSERT INTO {into} SELECT {listed} FROM {table.name}"
            connection.execute(text(f"{inserted} WHERE {row_of(table, 0)}"))
            assert any(names(fault, table) for fault in faults(connection, edited=table)), (
                column.name
            )


@pytest.mark.parametrize("table", RECORD, ids=lambda table: table.name)
def test_swapped_rows_are_found(record: Engine, table: Table) -> None:
    """The contents of two rows change places, their keys stay."""
    contents = [column.name for column in table.columns if not column.primary_key]
    assigned = ", ".join(f"{name} = o.{name}" for name in contents if name != "written_at")
    with tampered(record) as connection:
        pair = f"{row_of(table, 0)} OR {row_of(table, 1)}"
        connection.execute(
            text(
                f"UPDATE {table.name} t SET {assigned} FROM {table.name} o "
                f"WHERE (t.{pair.replace('OR ctid', 'OR t.ctid')}) "
                f"AND (o.{pair.replace('OR ctid', 'OR o.ctid')}) AND t.ctid <> o.ctid"
            )
        )
        assert any(names(fault, table) for fault in faults(connection, edited=table))


def test_swapped_links_are_found(record: Engine) -> None:
    with tampered(record) as connection:
        for statement in ("link = link + 100", "link = CASE link WHEN 101 THEN 2 ELSE 1 END"):
            where = "link IN (1, 2)" if "+" in statement else "link > 100"
            connection.execute(text(f"UPDATE record_links SET {statement} WHERE {where}"))
        assert {1, 2} <= {fault.link for fault in faults(connection)}


def test_a_hole_names_its_rows_and_runs(record: Engine) -> None:
    with tampered(record) as connection:
        connection.execute(text("DELETE FROM record_links WHERE link = 2"))
        head = KnownHead(2, "0" * 64, "run 7", "raw_prices", "2013-01-04")
        first, *_ = faults(connection, [head])
    assert (first.part, first.link) == ("links", 2)
    for evidence in ("raw_stock_data", "2013-01-02 to 2013-01-31", "run 7", "2013-01-04"):
        assert evidence in first.message


def test_a_link_with_a_new_digest_is_found_by_the_next_one(record: Engine) -> None:
    with tampered(record) as connection:
        link = connection.execute(select(record_links).where(record_links.c.link == 3)).one()
        forged = link._asdict() | {"note": "forged"}
        connection.execute(
            text("UPDATE record_links SET note = 'forged', digest = :digest WHERE link = 3"),
            {"digest": link_digest(forged)},
        )
        (fault,) = faults(connection)
    assert (fault.link, fault.column) == (4, "previous")


def test_links_that_runs_have_seen_are_missed(record: Engine) -> None:
    newest = head(record)
    assert newest is not None
    known = KnownHead(newest.number, newest.digest, "run 1", "predictions", "2013-01-31")
    lost = KnownHead(newest.number + 2, "f" * 64, "run 2", "predictions", "2013-02-01")
    other = KnownHead(1, "f" * 64, "run 3", "raw_prices", "2013-01-31")
    with record.connect() as connection:
        assert faults(connection, [known]) == []
        (fault,) = faults(connection, [known, lost, other])
    assert (fault.part, fault.link) == ("runs", 1)
    for evidence in ("run 2", "2013-02-01", "run 3", "raw_prices 2013-01-31", "written again"):
        assert evidence in fault.message


def test_links_that_were_accepted_as_lost_are_missed_no_more(record: Engine) -> None:
    lost = [KnownHead(number, "f" * 64, "run", "predictions") for number in (1, 99)]
    with recording(record, note="restored", lost_links=[asdict(head) for head in lost]):
        pass
    another = KnownHead(99, "e" * 64, "run 5", "predictions")
    accepting = head(record)
    assert accepting is not None
    with record.connect() as connection:
        assert faults(connection, lost) == []
        (fault,) = faults(connection, [*lost, another])
    assert (fault.part, fault.link) == ("runs", 99)
    with tampered(record) as connection:
        where = f"WHERE link = {accepting.number}"
        connection.execute(text(f"UPDATE record_links SET lost_links = '[]' {where}"))
        assert {fault.part for fault in faults(connection, lost)} == {"links", "runs"}


def test_a_json_null_among_lost_links_is_found(record: Engine) -> None:
    with tampered(record) as connection:
        statement = "UPDATE record_links SET lost_links = 'null'::jsonb WHERE link = 2"
        connection.execute(text(statement))
        (fault,) = faults(connection)
    assert (fault.part, fault.link, fault.column) == ("links", 2, "digest")


def test_a_value_in_a_column_that_a_link_did_not_know_is_found(record: Engine) -> None:
    with tampered(record) as connection:
        connection.execute(text("SET LOCAL session_replication_role = origin"))
        table = HISTORIES[raw_stock_data]
        connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN later text"))
        assert faults(connection) == []
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(f"UPDATE {table.name} SET later = 'x' WHERE {row_of(table, 1)}"))
        (fault,) = faults(connection)
    assert (fault.table, fault.column) == (table.name, "later")


@pytest.mark.parametrize("table", RECORD, ids=lambda table: table.name)
def test_a_disabled_trigger_is_found(record: Engine, table: Table) -> None:
    with tampered(record) as connection:
        connection.execute(text(f"ALTER TABLE {table.name} DISABLE TRIGGER USER"))
        found = faults(connection, edited=table)
        assert {(fault.part, fault.table) for fault in found} == {("guards", table.name)}


def test_dividends_that_no_action_gives_are_found(record: Engine) -> None:
    where = row_of(raw_stock_data, 1)
    with tampered(record) as connection:
        connection.execute(text(f"UPDATE raw_stock_data SET dividends = 5 WHERE {where}"))
        (fault,) = faults(connection)
    assert (fault.column, fault.key) == ("dividends", {"ticker": "A", "session": "2013-01-03"})
