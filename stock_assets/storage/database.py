"""Engines, migrations, locks, and rows in bulk with COPY."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv
from sqlalchemy import (
    BigInteger,
    Connection,
    Date,
    Double,
    Engine,
    Select,
    Table,
    Text,
    create_engine,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from stock_assets.core.errors import StockAssetsError

DRIVER = "postgresql+psycopg2"
STORE_URL_VARIABLE = "STOCK_ASSETS_STORE_URL"
PROVENANCE = "dagster_run_id"
"""The column with the run that wrote a row; it does not count when rows are compared."""


def url_from(variable: str) -> URL | None:
    """Return the PostgreSQL address in an environment variable, or None if it is unset.

    Raises
    ------
    StockAssetsError
        It is not the address of a PostgreSQL database.
    """
    address = os.environ.get(variable)
    if not address:
        return None
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        url = None
    if url is None or url.get_backend_name() != "postgresql":
        raise StockAssetsError(
            f"{variable} is not the address of a PostgreSQL database",
            "Write it as postgresql://USER:PASSWORD@HOST:5432/stock_assets",
        )
    return url.set(drivername=DRIVER)


def store_engine() -> Engine:
    """Return the engine of the ``stock_assets`` database named by the environment.

    Raises
    ------
    StockAssetsError
        The environment names no database.
    """
    url = os.environ.get(STORE_URL_VARIABLE)
    if not url:
        raise StockAssetsError(
            f"{STORE_URL_VARIABLE} is not set", 'Run eval "$(stock-assets env)" first'
        )
    return engine_for(url)


@cache
def engine_for(url: str) -> Engine:
    """Return the engine of an address: one per process."""
    return create_engine(url, pool_size=2, pool_pre_ping=True)


def upgrade(url: str) -> None:
    """Migrate the tables to the newest revision."""
    from alembic import command

    config = _migrations()
    config.attributes["url"] = url
    command.upgrade(config, "head")


@cache
def newest_revision() -> str:
    """Return the newest migration of this version."""
    from alembic.script import ScriptDirectory

    return str(ScriptDirectory.from_config(_migrations()).get_current_head())


def _migrations() -> Any:
    """Return Alembic's configuration."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@contextmanager
def advisory_lock(engine: Engine, name: str) -> Iterator[None]:
    """Hold a named lock; other processes that request it wait until the block ends.

    It is a session lock, so that no transaction is open while the block runs.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtext(:name))"), {"name": name})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtext(:name))"), {"name": name})


@dataclass(frozen=True)
class Merge:
    """Numbers of rows that a merge changed in a table."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def changed(self) -> int:
        """All changed rows."""
        return self.inserted + self.updated + self.deleted


def copy_in(connection: Connection, table: str, frame: pd.DataFrame) -> None:
    """Append the rows of `frame` to `table` with COPY, columns by name; NaN becomes NULL."""
    buffer = io.BytesIO()
    arrow_csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    buffer.seek(0)
    columns = ", ".join(f'"{name}"' for name in frame.columns)
    with _cursor(connection) as cursor:
        cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, HEADER)", buffer)


def copy_out(connection: Connection, query: Select[tuple[object, ...]]) -> pd.DataFrame:
    """Return the rows of a query, floats exact to the bit; dates become datetime64.

    Types come from the columns, not from the values: a ticker TRUE stays a string, and whole
    prices stay floats. JSON is text.
    """
    statement = query.compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
        compile_kwargs={"literal_binds": True},
    )
    buffer = io.BytesIO()
    with _cursor(connection) as cursor:
        cursor.copy_expert(f"COPY ({statement}) TO STDOUT WITH (FORMAT csv, HEADER)", buffer)
    buffer.seek(0)
    frame = pd.read_csv(
        buffer,
        dtype=_dtypes(query),
        float_precision="round_trip",
        keep_default_na=False,
        na_values=[""],
        true_values=["t"],
        false_values=["f"],
    )
    dates = [column.name for column in query.selected_columns if isinstance(column.type, Date)]
    return frame.astype(dict.fromkeys(dates, "datetime64[ns]"))


def stage(connection: Connection, table: Table, frame: pd.DataFrame) -> str:
    """Copy `frame` into a temporary table, which is dropped with the transaction."""
    name = f"staged_{table.name}"
    connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    connection.execute(
        text(
            f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS "
            f"SELECT {_names(frame.columns)} FROM {table.name} WITH NO DATA"
        )
    )
    copy_in(connection, name, frame)
    return name


def merge(connection: Connection, table: Table, frame: pd.DataFrame) -> Merge:
    """Insert new rows and update changed ones, by primary key; leave equal rows untouched.

    Rows are equal if they differ at most in the run that wrote them. Columns missing from `frame`
    keep their value, or take their default in new rows: the time of the first write survives.
    """
    staged = stage(connection, table, frame)
    return merge_staged(connection, table, staged, list(frame.columns))


def replace(
    connection: Connection, table: Table, frame: pd.DataFrame, scope: Mapping[str, Sequence[object]]
) -> Merge:
    """Replace the rows of `table` within `scope` (values of columns) by those of `frame`.

    Like :func:`merge`, but rows of the scope that are not in `frame` are deleted.
    """
    staged = stage(connection, table, frame)
    deleted = delete_unstaged(connection, table, staged, scope)
    merged = merge_staged(connection, table, staged, list(frame.columns))
    return Merge(merged.inserted, merged.updated, deleted)


def delete_unstaged(
    connection: Connection, table: Table, staged: str, scope: Mapping[str, Sequence[object]]
) -> int:
    """Delete the rows of `table` within `scope` that :func:`stage` has not copied; count them."""
    key = [column.name for column in table.primary_key]
    within = " AND ".join(f"t.{name} = ANY(:{name})" for name in scope)
    same = " AND ".join(f"s.{name} = t.{name}" for name in key)
    return connection.execute(
        text(
            f"DELETE FROM {table.name} t WHERE {within} "
            f"AND NOT EXISTS (SELECT 1 FROM {staged} s WHERE {same})"
        ),
        {name: list(values) for name, values in scope.items()},
    ).rowcount


def merge_staged(
    connection: Connection, table: Table, staged: str, columns: Sequence[str]
) -> Merge:
    """Merge rows that :func:`stage` has copied."""
    key = [column.name for column in table.primary_key]
    values = [name for name in columns if name not in key]
    compared = [name for name in values if name != PROVENANCE]
    ours, theirs = (
        ", ".join(f"{side}.{name}" for name in compared) for side in (table.name, "excluded")
    )
    changed = connection.execute(
        text(
            f"INSERT INTO {table.name} ({_names(columns)}) SELECT {_names(columns)} FROM {staged} "
            f"ON CONFLICT ({_names(key)}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in values)
            + f" WHERE ({ours}) IS DISTINCT FROM ({theirs}) RETURNING (xmax = 0) AS inserted"
        )
    ).scalars()
    outcomes = list(changed)
    return Merge(inserted=sum(outcomes), updated=len(outcomes) - sum(outcomes))


def _dtypes(query: Select[tuple[object, ...]]) -> dict[str, str]:
    """Return the dtypes that the CSV reader must not infer."""
    known = {Double: "float64", Text: "str", BigInteger: "Int64", JSONB: "str"}
    return {
        column.name: dtype
        for column in query.selected_columns
        for kind, dtype in known.items()
        if isinstance(column.type, kind)
    }


def _cursor(connection: Connection) -> Any:
    """Return a cursor of the driver, which supports COPY."""
    return connection.connection.cursor()


def _names(names: Sequence[str] | pd.Index) -> str:
    return ", ".join(f'"{name}"' for name in names)
