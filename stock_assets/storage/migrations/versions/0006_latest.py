"""Indexes for the newest forecasts, and for the forecasts and scores of a version."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

# One look into the index per ticker, however long the history is. All horizons of a ticker are of
# one session and one model: an earlier one may have looked further ahead.
LATEST_PREDICTIONS = """
CREATE OR REPLACE VIEW latest_predictions AS
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
BEFORE = """
CREATE OR REPLACE VIEW latest_predictions AS
SELECT DISTINCT ON (ticker, horizon) *
FROM predictions
ORDER BY ticker, horizon, as_of_session DESC, predicted_at DESC, model_version DESC
"""


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "predictions_of_ticker",
        "predictions",
        ["ticker", "as_of_session", "predicted_at", "model_version"],
    )
    op.create_index("predictions_of_version", "predictions", ["model_version", "as_of_session"])
    op.create_index(
        "model_performance_log_of_version", "model_performance_log", ["model_version", "session"]
    )
    op.execute(LATEST_PREDICTIONS)


def downgrade() -> None:
    """Undo."""
    op.execute(BEFORE)
    op.drop_index("model_performance_log_of_version", table_name="model_performance_log")
    op.drop_index("predictions_of_version", table_name="predictions")
    op.drop_index("predictions_of_ticker", table_name="predictions")
