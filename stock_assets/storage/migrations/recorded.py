"""Steps of migrations: a table joins the record, or leaves it; a downgrade is refused."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from stock_assets.core.errors import StockAssetsError


def record_table(table: str, key: str, derived: Sequence[str] = ()) -> None:
    """Create the history of a table and the triggers that fill and protect it.

    Parameters
    ----------
    table : str
        A table that exists.
    key : str
        Its primary key, as SQL.
    derived : sequence of str
        Columns that are not recorded: others determine them.
    """
    history = f"{table}_history"
    dropped = "".join(f"ALTER TABLE {history} DROP COLUMN {name};" for name in derived)
    op.execute(
        f"CREATE TABLE {history} AS TABLE {table} WITH NO DATA; {dropped} "
        f"ALTER TABLE {history} ADD COLUMN link bigint, ADD COLUMN removed boolean NOT NULL, "
        f"ADD PRIMARY KEY ({key}, link); "
        f"CREATE INDEX {history}_link ON {history} (link); "
        f"COMMENT ON TABLE {history} IS 'Every state of the rows of {table}, append-only'"
    )
    refuse_changes(history)
    op.execute(
        f"CREATE TRIGGER require_open_link AFTER INSERT ON {history} "
        "REFERENCING NEW TABLE AS new_rows "
        "FOR EACH STATEMENT EXECUTE FUNCTION require_open_link()"
    )
    for event, rows in (
        ("INSERT", "NEW TABLE AS new_rows"),
        ("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("DELETE", "OLD TABLE AS old_rows"),
    ):
        op.execute(
            f"CREATE TRIGGER record_{event.lower()} AFTER {event} ON {table} REFERENCING {rows} "
            "FOR EACH STATEMENT EXECUTE FUNCTION record_rows()"
        )
    op.execute(
        f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate()"
    )


def refuse_changes(table: str) -> None:
    """Make a history append-only."""
    for events, rows in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER refuse_{rows.lower()}_changes BEFORE {events} ON {table} "
            f"FOR EACH {rows} EXECUTE FUNCTION refuse_changes()"
        )


def forget_table(table: str) -> None:
    """Drop the history of a table, and the triggers that fill it."""
    for event in ("insert", "update", "delete"):
        op.execute(f"DROP TRIGGER record_{event} ON {table}")
    op.execute(f"DROP TRIGGER refuse_truncate ON {table}")
    op.drop_table(f"{table}_history")


def refuse_if_recorded() -> None:
    """Refuse a downgrade that drops what links of the record may cover.

    Raises
    ------
    StockAssetsError
        The record has a link.
    """
    if op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM record_links)")):
        raise StockAssetsError(
            "the downgrade would drop columns that the record covers",
            "Restore the backup from before the upgrade",
        )
