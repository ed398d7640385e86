"""Bulk rows: merge and replace count the changes; values are read as they were written."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from stock_assets.cli.platform import Platform
from stock_assets.core.errors import StockAssetsError
from stock_assets.storage.database import (
    STORE_URL_VARIABLE,
    Merge,
    advisory_lock,
    copy_in,
    copy_out,
    engine_for,
    merge,
    replace,
    store_engine,
)
from stock_assets_tests.conftest import throw_away_database

law = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])

ITEMS = Table(
    "items",
    MetaData(),
    Column("name", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("value", Double),
    Column("note", Text),
    Column("dagster_run_id", Text),
    Column("written_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
CELLS = Table(
    "cells",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("number", Double),
    Column("word", Text),
    Column("flag", Boolean),
    Column("day", Date),
)


@pytest.fixture(scope="module")
def module_engine(platform: Platform) -> Iterator[Engine]:
    """A database with the tables of this module."""
    with throw_away_database(platform) as url:
        engine = engine_for(url)
        with engine.begin() as connection:
            ITEMS.create(connection)
            CELLS.create(connection)
        yield engine
        engine.dispose()


@pytest.fixture
def bare(module_engine: Engine) -> Engine:
    """The same, without a row."""
    with module_engine.begin() as connection:
        connection.execute(text("TRUNCATE items, cells"))
    return module_engine


def items(*rows: tuple[str, int, float], **columns: object) -> pd.DataFrame:
    """Rows of name, day of January 2013 and value."""
    return pd.DataFrame(
        {
            "name": [name for name, _, _ in rows],
            "day": [date(2013, 1, day) for _, day, _ in rows],
            "value": [value for _, _, value in rows],
        }
    ).assign(**columns)


def stored(connection: Connection, *columns: str) -> list[tuple[object, ...]]:
    """The whole table in the order of its key."""
    wanted = [ITEMS.c[name] for name in columns or ("name", "day", "value")]
    return [tuple(row) for row in connection.execute(select(*wanted).order_by(ITEMS.c[0, 1]))]


def row_versions(connection: Connection) -> list[tuple[object, ...]]:
    """The place and the writer of each row; a rewritten row has another place."""
    found = connection.execute(text("SELECT name, day, ctid, xmin FROM items ORDER BY name, day"))
    return [tuple(row) for row in found]


def test_merge_counts_inserted_and_updated_rows(bare: Engine) -> None:
    with bare.begin() as connection:
        first = merge(connection, ITEMS, items(("a", 1, 1.0), ("b", 1, 2.0)))
        second = merge(connection, ITEMS, items(("a", 1, 1.0), ("b", 1, 3.0), ("c", 1, 4.0)))
        assert first == Merge(inserted=2)
        assert second == Merge(inserted=1, updated=1)
        assert second.changed == 2
        assert stored(connection, "name", "value") == [("a", 1.0), ("b", 3.0), ("c", 4.0)]


def test_merging_again_changes_nothing(bare: Engine) -> None:
    frame = items(("a", 1, 1.0), ("b", 1, math.nan))
    with bare.begin() as connection:
        merge(connection, ITEMS, frame)
    with bare.begin() as connection:
        before = row_versions(connection)
        assert merge(connection, ITEMS, frame) == Merge()
        assert row_versions(connection) == before


def test_merge_keeps_the_time_of_the_first_write(bare: Engine) -> None:
    with bare.begin() as connection:
        merge(connection, ITEMS, items(("a", 1, 1.0), ("b", 1, 2.0)))
    with bare.begin() as connection:
        before = stored(connection, "written_at")
        merge(connection, ITEMS, items(("a", 1, 1.0), ("b", 1, 9.0), ("c", 1, 3.0)))
        after = stored(connection, "written_at")
    assert after[:2] == before
    assert after[2] > before[0]


def test_merge_keeps_columns_missing_from_the_frame(bare: Engine) -> None:
    with bare.begin() as connection:
        merge(connection, ITEMS, items(("a", 1, 1.0), note="kept"))
        merge(connection, ITEMS, items(("a", 1, 2.0), ("b", 1, 3.0)))
        assert stored(connection, "value", "note") == [(2.0, "kept"), (3.0, None)]


def test_merge_leaves_equal_rows_of_another_run_unchanged(bare: Engine) -> None:
    with bare.begin() as connection:
        merge(connection, ITEMS, items(("a", 1, 1.0), ("b", 1, 2.0), dagster_run_id="first"))
        done = merge(
            connection, ITEMS, items(("a", 1, 1.0), ("b", 1, 3.0), dagster_run_id="second")
        )
        assert done == Merge(updated=1)
        assert stored(connection, "dagster_run_id") == [("first",), ("second",)]


def test_merge_of_an_empty_frame_changes_nothing(bare: Engine) -> None:
    with bare.begin() as connection:
        assert merge(connection, ITEMS, items()) == Merge()
        assert merge(connection, ITEMS, items(note="typed").astype({"value": float})) == Merge()


def test_a_failed_merge_changes_nothing(bare: Engine) -> None:
    twice = items(("a", 1, 1.0), ("b", 1, 2.0), ("b", 1, 3.0))
    with pytest.raises(Exception, match="cannot affect row a second time"), bare.begin() as work:
        merge(work, ITEMS, twice)
    with bare.begin() as connection:
        assert stored(connection) == []


def test_replace_deletes_missing_rows_within_the_scope_only(bare: Engine) -> None:
    with bare.begin() as connection:
        merge(
            connection,
            ITEMS,
            items(("a", 1, 1.0), ("b", 1, 2.0), ("a", 2, 3.0), ("b", 2, 4.0), ("a", 3, 5.0)),
        )
        scope = {"day": [date(2013, 1, 1), date(2013, 1, 2)]}
        done = replace(connection, ITEMS, items(("a", 1, 1.0), ("a", 2, 9.0), ("c", 2, 6.0)), scope)
        assert done == Merge(inserted=1, updated=1, deleted=2)
        assert stored(connection) == [
            ("a", date(2013, 1, 1), 1.0),
            ("a", date(2013, 1, 2), 9.0),
            ("a", date(2013, 1, 3), 5.0),
            ("c", date(2013, 1, 2), 6.0),
        ]
        assert replace(connection, ITEMS, items(("a", 1, 1.0)), {"day": [date(2013, 1, 1)]}) == (
            Merge()
        )


def test_a_row_is_in_scope_if_all_columns_match(bare: Engine) -> None:
    with bare.begin() as connection:
        merge(connection, ITEMS, items(("a", 1, 1.0), ("b", 1, 2.0)))
        scope = {"day": [date(2013, 1, 1)], "name": ["a"]}
        assert replace(connection, ITEMS, items(), scope) == Merge(deleted=1)
        assert stored(connection, "name") == [("b",)]


rows = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.integers(1, 4)),
    st.one_of(st.none(), st.floats(allow_nan=False)),
    max_size=12,
)


@law
@given(rows, st.data())
def test_merge_does_not_depend_on_the_order_of_frames(
    bare: Engine, table: dict[tuple[str, int], float | None], data: st.DataObject
) -> None:
    keys = sorted(table)
    parts = data.draw(
        st.lists(st.lists(st.sampled_from(keys), unique=True)) if keys else st.just([])
    )
    parts = data.draw(st.permutations([*parts, keys]))
    with bare.connect() as connection:
        for part in parts:
            merge(connection, ITEMS, items(*((*key, _number(table[key])) for key in part)))
        assert stored(connection) == [
            (name, date(2013, 1, day), table[name, day]) for name, day in keys
        ]


@law
@given(rows, rows)
def test_replace_makes_the_table_equal_to_the_frame(
    bare: Engine,
    before: dict[tuple[str, int], float | None],
    after: dict[tuple[str, int], float | None],
) -> None:
    everything = {"name": list("abc")}
    frame = items(*((*key, _number(value)) for key, value in after.items()))
    with bare.connect() as connection:
        merge(connection, ITEMS, items(*((*key, _number(value)) for key, value in before.items())))
        done = replace(connection, ITEMS, frame, everything)
        assert stored(connection) == [
            (name, date(2013, 1, day), after[name, day]) for name, day in sorted(after)
        ]
        assert done == Merge(
            inserted=len(after.keys() - before.keys()),
            updated=sum(before[key] != after[key] for key in before.keys() & after.keys()),
            deleted=len(before.keys() - after.keys()),
        )
        assert replace(connection, ITEMS, frame, everything) == Merge()


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def cells(**columns: list[object]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"id": range(count), **columns})


def there_and_back(engine: Engine, frame: pd.DataFrame) -> pd.DataFrame:
    """Copy a frame in and out again, and leave nothing."""
    with engine.connect() as connection:
        copy_in(connection, "cells", frame)
        columns = [CELLS.c[name] for name in frame.columns]
        return copy_out(connection, select(*columns).order_by(CELLS.c.id))


@law
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_copy_preserves_floats_exactly(bare: Engine, numbers: list[float]) -> None:
    back = there_and_back(bare, cells(number=numbers))["number"]
    assert back.dtype == np.float64
    assert [struct.pack("d", value) for value in back] == [
        struct.pack("d", value) for value in numbers
    ]


@pytest.mark.parametrize(
    "numbers", [[1.0, 2.0], [0.0, -0.0], [math.inf, -math.inf], [5e-324, 1e300]]
)
def test_copy_preserves_infinities_and_zeros(bare: Engine, numbers: list[float]) -> None:
    back = there_and_back(bare, cells(number=numbers))["number"]
    assert back.dtype == np.float64
    assert back.to_numpy().tobytes() == np.array(numbers).tobytes()


def test_nan_is_stored_as_null_and_read_as_nan(bare: Engine) -> None:
    frame = cells(number=[1.5, math.nan], flag=[True, False])
    with bare.connect() as connection:
        copy_in(connection, "cells", frame)
        nulls = connection.scalars(select(CELLS.c.id).where(CELLS.c.number.is_(None))).all()
        assert nulls == [1]
    back = there_and_back(bare, frame)
    assert back["number"].isna().tolist() == [False, True]
    assert back["flag"].tolist() == [True, False]


def test_a_column_of_nulls_keeps_its_type(bare: Engine) -> None:
    assert there_and_back(bare, cells(number=[math.nan]))["number"].dtype == np.float64
    assert there_and_back(bare, cells(word=[None]))["word"].dtype == object


WORDS = ["NA", "NULL", "None", "TRUE", "t", "f", "INF", "NAN", "1E5", "007", "12e456"]


@pytest.mark.parametrize("word", WORDS)
def test_strings_are_not_converted(bare: Engine, word: str) -> None:
    assert there_and_back(bare, cells(word=[word, word]))["word"].tolist() == [word, word]


@law
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
        | st.sampled_from(['"', ",", "a,b", 'say "so"', "\\N", "\\.", "two\nlines", " padded "]),
        min_size=1,
    )
)
def test_copy_preserves_any_string(bare: Engine, words: list[str]) -> None:
    assert there_and_back(bare, cells(word=words))["word"].tolist() == words


def test_copy_out_converts_dates_on_request(bare: Engine) -> None:
    with bare.connect() as connection:
        copy_in(connection, "cells", cells(day=[date(2013, 1, 2)]))
        back = copy_out(connection, select(CELLS.c.day))
        none = copy_out(connection, select(CELLS.c.day).where(text("false")))
    assert back["day"].tolist() == [pd.Timestamp("2013-01-02")]
    assert back["day"].dtype == none["day"].dtype == np.dtype("datetime64[ns]")


def test_an_empty_result_has_columns_and_types(bare: Engine) -> None:
    with bare.connect() as connection:
        back = copy_out(connection, select(CELLS.c.number, CELLS.c.word).where(text("false")))
    assert back.dtypes.tolist() == [np.dtype("float64"), np.dtype(object)]
    assert back.empty


def test_null_in_a_required_column_is_an_error(engine: Engine) -> None:
    broken = pd.DataFrame({"session": [date(2013, 1, 2)], "retrain": [None], "decision": ["{}"]})
    with pytest.raises(Exception, match="violates not-null") as caught, engine.begin() as work:
        copy_in(work, "retraining_decisions", broken)
    assert not isinstance(caught.value, IntegrityError | AssertionError)


def test_without_a_database_variable_the_remedy_is_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(STORE_URL_VARIABLE, raising=False)
    with pytest.raises(
        StockAssetsError, match=r'STORE_URL is not set\. Run eval "\$\(stock-assets env\)"'
    ):
        store_engine()


def test_a_process_has_one_engine_per_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_URL_VARIABLE, "postgresql+psycopg2://nobody@localhost/nothing")
    assert store_engine() is store_engine()


def test_advisory_lock_needs_no_open_transaction(engine: Engine) -> None:
    """Servers end idle transactions; a training holds the lock for longer."""
    held = text(
        "SELECT state FROM pg_stat_activity JOIN pg_locks USING (pid) "
        "WHERE locktype = 'advisory' AND pg_stat_activity.datname = current_database()"
    )
    with engine.connect() as connection:
        with advisory_lock(engine, "name"):
            assert connection.scalars(held).all() == ["idle"]
            other = text("SELECT pg_try_advisory_lock(hashtext('name'))")
            assert connection.scalar(other) is False
        assert connection.scalars(held).all() == []
