"""The database role of the service: it may read every table and can write none."""

from __future__ import annotations

import os

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from stock_assets.core.errors import StockAssetsError
from stock_assets.storage.database import DRIVER

READER = "stock_assets_reader"
READER_VARIABLE = "STOCK_ASSETS_READER_URL"

_POOL = 10
_POOL_SECONDS = 5
_CONNECT_SECONDS = 3
_SESSION = (
    "-c default_transaction_read_only=on -c statement_timeout=10s "
    "-c idle_in_transaction_session_timeout=30s -c timezone=UTC"
)

_READS_ALL = text("""
    SELECT NOT EXISTS (
        SELECT FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'p')
        AND NOT has_table_privilege(r.oid, c.oid, 'SELECT'))
    FROM pg_roles r WHERE r.rolname = :name
""")
_MAY_MAKE_ROLES = text(
    "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
)
_WRITABLE = text("""
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'p')
    AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') ORDER BY c.relname
""")


def reader_url() -> URL | None:
    """Address from ``STOCK_ASSETS_READER_URL``, or None when unset.

    Raises
    ------
    StockAssetsError
        It is not the address of a PostgreSQL database.
    """
    address = os.environ.get(READER_VARIABLE)
    if not address:
        return None
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        url = None
    if url is None or url.get_backend_name() != "postgresql":
        raise StockAssetsError(
            f"{READER_VARIABLE} is not the address of a PostgreSQL database",
            f"Write it as postgresql://{READER}:PASSWORD@HOST:5432/stock_assets",
        )
    return url.set(drivername=DRIVER)


def reader_engine(url: URL) -> Engine:
    """Engine for many short reads at once: read-only, each statement cut off after 10 s."""
    return create_engine(
        url,
        pool_size=_POOL,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_SECONDS, "options": _SESSION},
    )


def reader_statements(owner: str, database: str, password: str | None = None) -> list[str]:
    """Give the SQL that makes the role and lets it read what is in `database` now and later.

    Parameters
    ----------
    owner : str
        The user who makes the tables.
    database : str
        The database that holds them; the grants are to be given in it.
    password : str, optional
        None where the server asks for none, as the embedded one.
    """
    told = "" if password is None else f" PASSWORD {_literal(password)}"
    return [
        f"CREATE ROLE {READER} LOGIN{told}",
        f"ALTER ROLE {READER} SET default_transaction_read_only = on",
        f"GRANT CONNECT ON DATABASE {_name(database)} TO {READER}",
        f"GRANT USAGE ON SCHEMA public TO {READER}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {_name(owner)} IN SCHEMA public "
        f"GRANT SELECT ON TABLES TO {READER}",
    ]


def ensure_reader(engine: Engine, password: str | None = None) -> None:
    """Make the role if it is missing, and let it read every table of this database.

    Nothing happens where it may read them all already, or where this user may not make roles: then
    an administrator runs :func:`reader_statements`. The password of a role that is there stays.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('stock_assets.reader'))"))
        reads_all = connection.scalar(_READS_ALL, {"name": READER})
        if reads_all or not connection.scalar(_MAY_MAKE_ROLES):
            return
        owner, database = connection.execute(text("SELECT current_user, current_database()")).one()
        create, *grants = reader_statements(owner, database, password)
        # The driver's own cursor takes a statement as it is, percent signs and colons too.
        cursor = connection.connection.cursor()
        for statement in grants if reads_all is not None else [create, *grants]:
            cursor.execute(statement)


def require_reader(url: URL) -> None:
    """Fail in one line unless the database lets the reader in, and lets it only read.

    Raises
    ------
    StockAssetsError
        The database does not answer, refuses the role, or lets it write.
    """
    engine = reader_engine(url)
    try:
        with engine.connect() as connection:
            writable = connection.scalars(_WRITABLE).all()
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise StockAssetsError(
            f"no database at {url.render_as_string(hide_password=True)}: {reason}",
            f"Start it, or correct {READER_VARIABLE}",
        ) from None
    finally:
        engine.dispose()
    if writable:
        raise StockAssetsError(
            f"{url.username} may write to the database ({writable[0]})",
            f"Name a role in {READER_VARIABLE} that can only read",
        )


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
