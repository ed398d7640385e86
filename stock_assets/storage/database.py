"""Connections and bulk movement of rows: COPY in, COPY out, never one row at a time."""

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
from sqlalchemy import Connection, Double, Engine, Select, Table, Text, create_engine, text
from sqlalchemy.dialects import postgresql

from stock_assets.core.errors import StockAssetsError

DRIVER = "postgresql+psycopg2"
STORE_URL_VARIABLE = "STOCK_ASSETS_STORE_URL"
PROVENANCE = "dagster_run_id"
"""The column that says which run wrote a row; rows that differ in it alone are equal."""


def store_engine() -> Engine:
    """Engine on the ``stock_assets`` database named by the environment.

    Raises
    ------
    StockAssetsError
        The environment names no database.
    """
    url = os.environ.get(STORE_URL_VARIABLE)
    if not url:
        raise StockAssetsError(
            f"no database is named by {STORE_URL_VARIABLE}", 'Run eval "$(stock-assets env)" first'
        )
    return engine_for(url)


@cache
def engine_for(url: str) -> Engine:
    """One engine per address and process."""
    return create_engine(url, pool_size=2, pool_pre_ping=True)


def upgrade(url: str) -> None:
    """Bring the tables to the newest migration; doing it again changes nothing."""
    from alembic import command

    config = _migrations()
    config.attributes["url"] = url
    command.upgrade(config, "head")


@cache
def newest_revision() -> str:
    """Name the migration that this version of the tables is at."""
    from alembic.script import ScriptDirectory

    return str(ScriptDirectory.from_config(_migrations()).get_current_head())


def _migrations() -> Any:
    """Give Alembic's configuration; the package is imported only by those who need it."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@contextmanager
def advisory_lock(engine: Engine, name: str) -> Iterator[None]:
    """Hold a named lock: whoever asks for it elsewhere waits until this block ends.

    The lock belongs to a connection and not to a transaction: none is open while the block runs.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtext(:name))"), {"name": name})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtext(:name))"), {"name": name})


@dataclass(frozen=True)
class Merge:
    """What a merge did to a table."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def changed(self) -> int:
        """Rows that differ from before."""
        return self.inserted + self.updated + self.deleted


def copy_in(connection: Connection, table: str, frame: pd.DataFrame) -> None:
    """Append the rows of `frame` to `table` with COPY, columns by name; NaN becomes NULL."""
    buffer = io.BytesIO()
    arrow_csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    buffer.seek(0)
    columns = ", ".join(f'"{name}"' for name in frame.columns)
    with _cursor(connection) as cursor:
        cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, HEADER)", buffer)


def copy_out(
    connection: Connection, query: Select[tuple[object, ...]], dates: Sequence[str] = ()
) -> pd.DataFrame:
    """Rows of a query as a frame, floats exact to the bit; `dates` become datetime64.

    Numbers and texts have the types of their columns, whatever the rows look like: a ticker named
    TRUE stays a text, and whole prices stay floats.
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
    return frame.astype(dict.fromkeys(dates, "datetime64[ns]"))


def staged_name(table: Table) -> str:
    """Name of the temporary table that holds what was last staged for `table`."""
    return f"staged_{table.name}"


def stage(connection: Connection, table: Table, frame: pd.DataFrame) -> str:
    """Copy `frame` into a temporary table of the same shape, gone at the transaction's end."""
    name = staged_name(table)
    connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    connection.execute(
        text(
            f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS "
            f"SELECT {_list(frame.columns)} FROM {table.name} WITH NO DATA"
        )
    )
    copy_in(connection, name, frame)
    return name


def merge(connection: Connection, table: Table, frame: pd.DataFrame) -> Merge:
    """Insert new rows and update those whose values differ; equal rows are left untouched.

    Rows are the same row when their primary key is equal, and equal when nothing but the run that
    wrote them differs. Columns that `frame` lacks keep their value, or take their default in new
    rows, so that the time a row was first written survives.
    """
    staged = stage(connection, table, frame)
    return merge_staged(connection, table, staged, list(frame.columns))


def replace(
    connection: Connection, table: Table, frame: pd.DataFrame, scope: Mapping[str, Sequence[object]]
) -> Merge:
    """Make the rows of `table` whose columns lie in `scope` equal to `frame`.

    Like :func:`merge`, and rows within the scope that `frame` does not hold are deleted.
    """
    staged = stage(connection, table, frame)
    key = [column.name for column in table.primary_key]
    within = " AND ".join(f"t.{name} = ANY(:{name})" for name in scope)
    same = " AND ".join(f"s.{name} = t.{name}" for name in key)
    deleted = connection.execute(
        text(
            f"DELETE FROM {table.name} t WHERE {within} "
            f"AND NOT EXISTS (SELECT 1 FROM {staged} s WHERE {same})"
        ),
        {name: list(values) for name, values in scope.items()},
    ).rowcount
    merged = merge_staged(connection, table, staged, list(frame.columns))
    return Merge(merged.inserted, merged.updated, deleted)


def merge_staged(
    connection: Connection, table: Table, staged: str, columns: Sequence[str]
) -> Merge:
    """Do the second half of :func:`merge`, with rows that :func:`stage` has copied already."""
    key = [column.name for column in table.primary_key]
    values = [name for name in columns if name not in key]
    compared = [name for name in values if name != PROVENANCE]
    ours, theirs = (
        ", ".join(f"{side}.{name}" for name in compared) for side in (table.name, "excluded")
    )
    changed = connection.execute(
        text(
            f"INSERT INTO {table.name} ({_list(columns)}) SELECT {_list(columns)} FROM {staged} "
            f"ON CONFLICT ({_list(key)}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in values)
            + f" WHERE ({ours}) IS DISTINCT FROM ({theirs}) RETURNING (xmax = 0) AS inserted"
        )
    ).scalars()
    outcomes = list(changed)
    return Merge(inserted=sum(outcomes), updated=len(outcomes) - sum(outcomes))


def _dtypes(query: Select[tuple[object, ...]]) -> dict[str, str]:
    """Dtypes of the columns that a CSV reader would otherwise guess."""
    known = {Double: "float64", Text: "str"}
    return {
        column.name: dtype
        for column in query.selected_columns
        for kind, dtype in known.items()
        if isinstance(column.type, kind)
    }


def _cursor(connection: Connection) -> Any:
    """Cursor of the driver itself, which alone knows COPY."""
    return connection.connection.cursor()


def _list(names: Sequence[str] | pd.Index) -> str:
    return ", ".join(f'"{name}"' for name in names)
