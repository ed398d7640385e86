"""Forecasts record how they were issued, and scores the issue that was scored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from stock_assets.storage.migrations.recorded import forget_table, record_table, refuse_if_recorded

revision = "0016"
down_revision = "0015"

# The view of migration 0006: its columns are those of the table when it is created.
LATEST_PREDICTIONS = """
CREATE VIEW latest_predictions AS
WITH RECURSIVE forecast AS (
  (SELECT ticker FROM predictions ORDER BY ticker LIMIT 1)
  UNION ALL
  SELECT further.ticker FROM forecast CROSS JOIN LATERAL (
    SELECT p.ticker FROM predictions p
    WHERE p.ticker > forecast.ticker ORDER BY p.ticker LIMIT 1) further)
SELECT made.* FROM forecast CROSS JOIN LATERAL (
  SELECT p.as_of_session, p.model_version FROM predictions p
  WHERE p.ticker = forecast.ticker
  ORDER BY p.as_of_session DESC, p.predicted_at DESC, p.model_version DESC LIMIT 1) newest
JOIN predictions made ON made.ticker = forecast.ticker
  AND made.as_of_session = newest.as_of_session AND made.model_version = newest.model_version
"""
TABLES = ("predictions", "model_performance_log")


def upgrade() -> None:
    """Apply; how earlier forecasts were issued is unknown."""
    op.create_table(
        "forecast_issues",
        sa.Column("issue", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text()),
        sa.Column("known_at", sa.DateTime(timezone=True)),
        sa.Column("params", JSONB()),
        sa.Column("params_digest", sa.Text()),
        sa.Column("build_environment", JSONB()),
        sa.Column("torch", sa.Text()),
        sa.Column("device", sa.Text()),
        sa.Column("dagster_run_id", sa.Text()),
        sa.Column(
            "issued_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("record_time()"),
        ),
        sa.CheckConstraint(
            "reason IN ('scheduled', 'backfill', 'rerun', 'rollback')",
            name="forecast_issues_reason_check",
        ),
        comment="What forecasts were issued with: one row per model version and transaction",
    )
    record_table("forecast_issues", "issue")
    for table in TABLES:
        for name in (table, f"{table}_history"):
            op.add_column(name, sa.Column("issue", sa.BigInteger()))
            op.add_column(name, sa.Column("issued", sa.Text()))
        op.create_check_constraint(
            f"{table}_issued_check", table, "issued IN ('live', 'backfilled')"
        )
    op.create_index(
        "predictions_history_live",
        "predictions_history",
        ["target_session"],
        postgresql_where=sa.text("issued = 'live' AND NOT removed"),
    )
    op.execute("DROP VIEW latest_predictions")
    op.execute(LATEST_PREDICTIONS)


def downgrade() -> None:
    """Undo; how forecasts were issued is lost."""
    refuse_if_recorded()
    op.execute("DROP VIEW latest_predictions")
    op.drop_index("predictions_history_live", table_name="predictions_history")
    for table in TABLES:
        for name in (table, f"{table}_history"):
            op.drop_column(name, "issued")
            op.drop_column(name, "issue")
    forget_table("forecast_issues")
    op.drop_table("forecast_issues")
    op.execute(LATEST_PREDICTIONS)
