"""Writes that bypass the record, as the owner of the database could make them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

import stock_assets.storage.histories  # noqa: F401 - defines tables of the metadata
from stock_assets.storage.tables import metadata


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
