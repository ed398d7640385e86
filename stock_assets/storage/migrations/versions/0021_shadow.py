"""Forecasts have a role, and a candidate may have several decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from stock_assets.storage.migrations.recorded import refuse_if_recorded

revision = "0021"
down_revision = "0020"

# The view of migration 0019, with a condition; its columns are those of the table when created.
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
  WHERE p.ticker = forecast.ticker {condition}
  ORDER BY p.as_of_session DESC, p.predicted_at DESC, p.model_version DESC LIMIT 1) newest
JOIN predictions made ON made.ticker = forecast.ticker
  AND made.as_of_session = newest.as_of_session AND made.model_version = newest.model_version
"""
TABLES = ("predictions", "model_performance_log")
KEY = "dataset_run_id, candidate_version"
COMMENTS = (
    "Candidate against production and persistence on the same held-out sessions",
    "Candidate against production and persistence on the same sessions, by decision",
)


def upgrade() -> None:
    """Apply; earlier forecasts have no role, which is production."""
    for table in TABLES:
        for name in (table, f"{table}_history"):
            op.add_column(name, sa.Column("role", sa.Text()))
        op.create_check_constraint(f"{table}_role_check", table, "role IN ('production', 'shadow')")
    op.execute("DROP VIEW latest_predictions")
    op.execute(LATEST_PREDICTIONS.format(condition="AND p.role IS DISTINCT FROM 'shadow'"))
    _set_key(f"{KEY}, last_session")
    op.create_table_comment("model_promotions", COMMENTS[1], existing_comment=COMMENTS[0])


def downgrade() -> None:
    """Undo; without a record there is no shadow."""
    refuse_if_recorded()
    _set_key(KEY)
    op.create_table_comment("model_promotions", COMMENTS[0], existing_comment=COMMENTS[1])
    op.execute("DROP VIEW latest_predictions")
    for table in TABLES:
        for name in (table, f"{table}_history"):
            op.drop_column(name, "role")
    op.execute(LATEST_PREDICTIONS.format(condition=""))


def _set_key(key: str) -> None:
    """Set the primary key of decisions; the triggers of their history read it from there."""
    for table, columns in (("model_promotions", key), ("model_promotions_history", f"{key}, link")):
        op.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey, "
            f"ADD CONSTRAINT {table}_pkey PRIMARY KEY ({columns})"
        )
