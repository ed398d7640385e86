"""The reader: it sees every table and can change none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from stock_assets.core.errors import StockAssetsError
from stock_assets.storage.database import upgrade
from stock_assets.storage.reader import (
    READER,
    READER_VARIABLE,
    ensure_reader,
    reader_engine,
    reader_statements,
    reader_url,
    require_reader,
)
from stock_assets.storage.tables import metadata


@pytest.fixture
def reader(engine: Engine) -> Iterator[Engine]:
    ensure_reader(engine)
    opened = reader_engine(engine.url.set(username=READER))
    yield opened
    opened.dispose()


@pytest.mark.parametrize("name", [*metadata.tables, "latest_predictions", "alembic_version"])
def test_the_role_reads_every_table(reader: Engine, name: str):
    with reader.connect() as connection:
        assert connection.scalar(text(f"SELECT count(*) FROM {name}")) is not None


def test_twenty_requests_read_at_once(reader: Engine):
    with ExitStack() as opened:
        found = [opened.enter_context(reader.connect()) for _ in range(20)]
        assert len({one.scalar(text("SELECT pg_backend_pid()")) for one in found}) == 20


WRITES = [
    "INSERT INTO instruments VALUES ('A', 'USD', '2000-01-03', 'x')",
    "UPDATE instruments SET currency = 'EUR'",
    "DELETE FROM predictions",
    "TRUNCATE predictions",
    "DROP TABLE predictions",
    "DROP VIEW latest_predictions",
    "ALTER TABLE predictions ADD COLUMN x int",
    "CREATE TABLE mine (x int)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "COPY instruments FROM PROGRAM 'true'",
    "COPY instruments TO '/tmp/instruments.csv'",
    "SELECT pg_read_file('/etc/passwd')",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
]


@pytest.mark.parametrize("write", WRITES)
def test_the_reader_cannot_write_after_any_statement(reader: Engine, write: str):
    """The transaction is read-only, and the rights are missing where it is made another."""
    for statement in (
        "RESET ROLE",
        "SET default_transaction_read_only = off; COMMIT; BEGIN READ WRITE",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; COMMIT; BEGIN; RESET ALL",
        "SET TRANSACTION READ WRITE",
    ):
        with reader.connect() as connection:
            connection.exec_driver_sql(statement)
            with pytest.raises(DBAPIError, match=r"permission denied|must be|read-only|privilege"):
                connection.exec_driver_sql(write)
            connection.invalidate()


def test_its_transactions_are_read_only_by_default(reader: Engine):
    with reader.connect() as connection:
        assert connection.scalar(text("SHOW transaction_read_only")) == "on"
        assert connection.scalar(text("SHOW statement_timeout")) == "10s"
        assert connection.scalar(text("SELECT current_user")) == READER


def test_the_role_reads_tables_created_later(reader: Engine, engine: Engine):
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE later (x int)"))
    try:
        with reader.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM later")) == 0
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE later"))


def test_ensure_reader_is_idempotent(engine: Engine):
    ensure_reader(engine)
    rights = text("SELECT relname, relacl::text FROM pg_class WHERE relacl IS NOT NULL ORDER BY 1")
    with engine.connect() as connection:
        before = connection.execute(rights).all()
    ensure_reader(engine)
    upgrade(engine.url.render_as_string(hide_password=False))
    ensure_reader(engine)
    with engine.connect() as connection:
        assert connection.execute(rights).all() == before


def test_a_revoked_right_is_granted_again(engine: Engine, reader: Engine):
    with engine.begin() as connection:
        connection.execute(text(f"REVOKE SELECT ON predictions FROM {READER}"))
    ensure_reader(engine)
    with reader.connect() as connection:
        connection.execute(text("SELECT count(*) FROM predictions"))


def test_names_and_passwords_are_quoted():
    first, *others = reader_statements('ow"ner', "stock assets", "pass'word")
    assert first.endswith("PASSWORD 'pass''word'")
    assert any('DATABASE "stock assets"' in statement for statement in others)
    assert any('FOR ROLE "ow""ner"' in statement for statement in others)


def test_the_statements_run_as_sql(engine: Engine):
    """The password has special characters. Rolled back, because the role exists."""
    create, *grants = reader_statements("postgres", str(engine.url.database), "a%sb:c'd")
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(create.replace(READER, "another_reader"))
        for grant in grants:
            cursor.execute(grant.replace(READER, "another_reader"))
    finally:
        connection.rollback()
        connection.close()


def test_a_role_that_can_write_is_an_error(engine: Engine):
    with pytest.raises(StockAssetsError, match="may write to the table") as caught:
        require_reader(engine.url)
    assert READER_VARIABLE in caught.value.remedy
    ensure_reader(engine)
    require_reader(engine.url.set(username=READER))


def test_a_database_that_rejects_the_reader_is_an_error_of_one_line(engine: Engine):
    with pytest.raises(StockAssetsError, match=r"no database at .*nobody") as caught:
        require_reader(engine.url.set(username="nobody", password="secret"))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_query_is_cancelled(engine: Engine):
    ensure_reader(engine)
    reader = reader_engine(engine.url.set(username=READER))
    with reader.connect() as connection:
        connection.execute(text("SET statement_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(60)"))
    reader.dispose()


@pytest.mark.parametrize("address", ["sqlite:///x.db", "nonsense", "postgresql://u:p@h:x/db"])
def test_an_address_of_another_kind_is_an_error(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv(READER_VARIABLE, address)
    with pytest.raises(StockAssetsError, match="is not the address of a PostgreSQL database"):
        reader_url()


def test_an_address_names_the_driver_in_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(READER_VARIABLE, raising=False)
    assert reader_url() is None
    monkeypatch.setenv(
        READER_VARIABLE, "postgresql://stock_assets_reader:x@db.example/stock_assets"
    )
    url = reader_url()
    assert url == make_url("postgresql+psycopg2://stock_assets_reader:x@db.example/stock_assets")


def test_ensure_reader_without_the_privilege_does_nothing(engine: Engine):
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE plain_user LOGIN"))
    plain = create_engine(engine.url.set(username="plain_user"))
    try:
        ensure_reader(plain)
    finally:
        plain.dispose()
        with engine.begin() as connection:
            connection.execute(text("DROP ROLE plain_user"))
