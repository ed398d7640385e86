"""Forecasts have intervals of several coverages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from stock_assets.storage.migrations.recorded import refuse_if_recorded

revision = "0019"
down_revision = "0018"

# The view of migration 0016: its columns are those of the table when it is created.
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
TABLES = ("predictions", "predictions_history")


def upgrade() -> None:
    """Apply; earlier forecasts have the one interval of their bounds."""
    for table in TABLES:
        op.add_column(table, sa.Column("intervals", JSONB()))
    op.execute("DROP VIEW latest_predictions")
    op.execute(LATEST_PREDICTIONS)


def downgrade() -> None:
    """Undo; intervals of other coverages are lost."""
    refuse_if_recorded()
    op.execute("DROP VIEW latest_predictions")
    for table in TABLES:
        op.drop_column(table, "intervals")
    op.execute(LATEST_PREDICTIONS)
