"""Corporate actions in a separate table; revisions, quarantine and instruments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBERS = ("open", "high", "low", "close", "volume", "dividends", "stock_splits")
PRODUCT = "CREATE AGGREGATE product(double precision) (sfunc = float8mul, stype = float8)"
ACTIONS_OF_BARS = """
INSERT INTO corporate_actions (ticker, ex_date, kind, value, source, dagster_run_id, recorded_at)
SELECT ticker, session, kind, value, source, dagster_run_id, fetched_at
FROM raw_stock_data
CROSS JOIN LATERAL (VALUES ('dividend', dividends), ('split', stock_splits)) AS a(kind, value)
WHERE value > 0
"""
# Until now only the chosen sessions were requested, not those missing before them: from the
# newest one on is all that is sure, so that the next ingestion asks for whole histories once.
INSTRUMENTS_OF_BARS = """
INSERT INTO instruments (ticker, currency, asked_from, source, first_fetched_at)
SELECT ticker, 'USD', max(session), max(source), min(fetched_at)
FROM raw_stock_data GROUP BY ticker
"""


def _written(name: str) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "corporate_actions",
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("ex_date", sa.Date(), nullable=False),
        sa.Column(
            "kind",
            sa.Text(),
            sa.CheckConstraint("kind IN ('dividend', 'split')"),
            nullable=False,
        ),
        sa.Column("value", sa.Double(), sa.CheckConstraint("value > 0"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        _written("recorded_at"),
        sa.PrimaryKeyConstraint("ticker", "ex_date", "kind"),
        comment="Dividends per share, as traded, and split ratios; in force with the first bar "
        "from the ex-date on",
    )
    op.create_table(
        "instruments",
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("asked_from", sa.Date(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        _written("first_fetched_at"),
        sa.PrimaryKeyConstraint("ticker"),
        comment="What prices are in, and since when they were asked for",
    )
    op.create_table(
        "ticker_renames",
        sa.Column("old_ticker", sa.Text(), nullable=False),
        sa.Column("new_ticker", sa.Text(), nullable=False),
        sa.Column("first_session", sa.Date(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        _written("applied_at"),
        sa.PrimaryKeyConstraint("old_ticker", "first_session"),
        comment="Renames that were applied: from its first session on, the history has the new "
        "name",
    )
    op.create_table(
        "quarantined_bars",
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in NUMBERS),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        _written("quarantined_at"),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("ticker", "session", "rule", "detail"),
        comment="Bars that broke a rule and were not stored; released when a sound one was",
    )
    for column in ("dividends", "stock_splits"):
        op.alter_column("raw_stock_data", column, server_default="0")
    op.create_table_comment(
        "raw_stock_data",
        "One bar per ticker and session, as traded, with what corporate_actions do to it",
        existing_comment="One bar per ticker and session, as traded",
    )
    op.execute(PRODUCT)
    op.execute(ACTIONS_OF_BARS)
    op.execute(INSTRUMENTS_OF_BARS)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP AGGREGATE product(double precision)")
    op.create_table_comment("raw_stock_data", "One bar per ticker and session, as traded")
    for column in ("stock_splits", "dividends"):
        op.alter_column("raw_stock_data", column, server_default=None)
    op.drop_table("quarantined_bars")
    op.drop_table("ticker_renames")
    op.drop_table("instruments")
    op.drop_table("corporate_actions")
