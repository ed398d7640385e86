"""The read-only database role of the service."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from stock_assets.core.errors import StockAssetsError
from stock_assets.storage.database import url_from

READER = "stock_assets_reader"
READER_VARIABLE = "STOCK_ASSETS_READER_URL"

_POOL, _OVERFLOW = 10, 10
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
_MAY_CREATE_ROLES = text(
    "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
)
_WRITABLE = text("""
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'p')
    AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') ORDER BY c.relname
""")


def reader_url() -> URL | None:
    """Return the address in ``STOCK_ASSETS_READER_URL``, or None if it is unset."""
    return url_from(READER_VARIABLE)


def reader_engine(url: URL) -> Engine:
    """Return an engine for short parallel reads: read-only, at most 10 s per statement."""
    return create_engine(
        url,
        pool_size=_POOL,
        max_overflow=_OVERFLOW,
        pool_timeout=_POOL_SECONDS,
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_SECONDS, "options": _SESSION},
    )


def reader_statements(owner: str, database: str, password: str | None = None) -> list[str]:
    """Return the SQL that creates the role and lets it read all present and future tables.

    Parameters
    ----------
    owner : str
        The user that creates the tables.
    database : str
        Their database; run the statements in it.
    password : str, optional
        None if the server requires none, as the embedded one.
    """
    clause = "" if password is None else f" PASSWORD {_literal(password)}"
    return [
        f"CREATE ROLE {READER} LOGIN{clause}",
        f"ALTER ROLE {READER} SET default_transaction_read_only = on",
        f"GRANT CONNECT ON DATABASE {_name(database)} TO {READER}",
        f"GRANT USAGE ON SCHEMA public TO {READER}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {_name(owner)} IN SCHEMA public "
        f"GRANT SELECT ON TABLES TO {READER}",
    ]


def ensure_reader(engine: Engine, password: str | None = None) -> None:
    """Create the role if it is missing, and let it read every table of this database.

    Does nothing if the role can read them all, or if this user may not create roles: then an
    administrator runs :func:`reader_statements`. The password of an existing role stays.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('stock_assets.reader'))"))
        reads_all = connection.scalar(_READS_ALL, {"name": READER})
        if reads_all or not connection.scalar(_MAY_CREATE_ROLES):
            return
        owner, database = connection.execute(text("SELECT current_user, current_database()")).one()
        create, *grants = reader_statements(owner, database, password)
        # SQLAlchemy would interpret percent signs and colons in a password.
        cursor = connection.connection.cursor()
        for statement in grants if reads_all is not None else [create, *grants]:
            cursor.execute(statement)


def require_reader(url: URL) -> None:
    """Fail unless the role can connect and cannot write.

    Raises
    ------
    StockAssetsError
        The database does not answer, rejects the role, or lets it write.
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
            f"{url.username} may write to the table {writable[0]}",
            f"Set {READER_VARIABLE} to a role that can only read",
        )


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
