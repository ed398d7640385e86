"""Writes that bypass the record, as the owner of the database could make them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.tables import metadata, record_links


@contextmanager
def tampering(engine: Engine) -> Iterator[Connection]:
    """Open a transaction in which no trigger fires."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        yield connection


def empty(engine: Engine) -> None:
    """Remove the rows of all tables, their record included."""
    with tampering(engine) as connection:
        connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY"))


def forget_record(engine: Engine) -> None:
    """Remove the record and keep the rows, so that migrations can be undone."""
    names = ", ".join(table.name for table in (record_links, *HISTORIES.values()))
    with tampering(engine) as connection:
        connection.execute(text(f"TRUNCATE {names}"))
