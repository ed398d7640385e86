"""The tables of the loop, and the view of the newest forecast per ticker."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

LATEST_PREDICTIONS = """
CREATE VIEW latest_predictions AS
SELECT DISTINCT ON (ticker, horizon) *
FROM predictions
ORDER BY ticker, horizon, as_of_session DESC, predicted_at DESC, model_version DESC
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "model_performance_log",
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("horizon", sa.Integer(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("dataset_run_id", sa.Text(), nullable=False),
        sa.Column("mlflow_run_id", sa.Text(), nullable=False),
        sa.Column("as_of_session", sa.Date(), nullable=False),
        sa.Column("actual", sa.Double(), nullable=False),
        sa.Column("predicted", sa.Double(), nullable=False),
        sa.Column("persistence", sa.Double(), nullable=False),
        sa.Column("lower", sa.Double(), nullable=False),
        sa.Column("upper", sa.Double(), nullable=False),
        sa.Column("absolute_error", sa.Double(), nullable=False),
        sa.Column("absolute_percentage_error", sa.Double(), nullable=False),
        sa.Column("squared_error", sa.Double(), nullable=False),
        sa.Column("persistence_absolute_error", sa.Double(), nullable=False),
        sa.Column("direction_hit", sa.Double(), nullable=True),
        sa.Column("covered", sa.Double(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        sa.Column(
            "evaluated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("session", "ticker", "horizon", "model_version"),
        comment="Forecasts that came due against what happened, on the scored session's basis",
    )
    op.create_table(
        "predictions",
        sa.Column("as_of_session", sa.Date(), nullable=False),
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("horizon", sa.Integer(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("dataset_run_id", sa.Text(), nullable=False),
        sa.Column("mlflow_run_id", sa.Text(), nullable=False),
        sa.Column("target_session", sa.Date(), nullable=False),
        sa.Column("last_close", sa.Double(), nullable=False),
        sa.Column("predicted_return", sa.Double(), nullable=False),
        sa.Column("predicted_price", sa.Double(), nullable=False),
        sa.Column("lower_price", sa.Double(), nullable=False),
        sa.Column("upper_price", sa.Double(), nullable=False),
        sa.Column("coverage", sa.Double(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        sa.Column(
            "predicted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("as_of_session", "ticker", "horizon", "model_version"),
        comment="Forecasts, in the shares of the as-of session",
    )
    op.create_index(
        op.f("ix_predictions_target_session"), "predictions", ["target_session"], unique=False
    )
    op.create_table(
        "price_revisions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("old_value", sa.Double(), nullable=False),
        sa.Column("new_value", sa.Double(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        sa.Column(
            "revised_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id"),
        comment="Every change that a source made to a stored bar",
    )
    op.create_index(
        "price_revisions_ticker_session", "price_revisions", ["ticker", "session"], unique=False
    )
    op.create_table(
        "processed_feature_data",
        sa.Column("dataset_run_id", sa.Text(), nullable=False),
        sa.Column("as_of_session", sa.Date(), nullable=False),
        sa.Column("first_session", sa.Date(), nullable=False),
        sa.Column("last_session", sa.Date(), nullable=False),
        sa.Column("bars", sa.Integer(), nullable=False),
        sa.Column("tickers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("features", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("anchors", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("params", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("bars_digest", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("frame_location", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("dataset_run_id"),
        comment="The feature panel of a dataset; the arrays are a tensor file and a Parquet file",
    )
    op.create_table(
        "raw_stock_data",
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("open", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("close", sa.Double(), nullable=False),
        sa.Column("volume", sa.Double(), nullable=False),
        sa.Column("dividends", sa.Double(), nullable=False),
        sa.Column("stock_splits", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        sa.Column(
            "fetched_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("ticker", "session"),
        comment="One bar per ticker and session, as traded",
    )
    op.create_index("raw_stock_data_session", "raw_stock_data", ["session"], unique=False)
    op.create_table(
        "retraining_decisions",
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("retrain", sa.Boolean(), nullable=False),
        sa.Column("breaches", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("metrics", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("dataset_run_id", sa.Text(), nullable=True),
        sa.Column(
            "decided_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("session"),
        comment="What the scores up to a session called for; at most one per session",
    )
    op.create_table(
        "model_promotions",
        sa.Column("dataset_run_id", sa.Text(), nullable=False),
        sa.Column("candidate_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("as_of_session", sa.Date(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("production_version", sa.Integer(), nullable=True),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("candidate", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("production", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("persistence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("first_session", sa.Date(), nullable=False),
        sa.Column("last_session", sa.Date(), nullable=False),
        sa.Column("promoted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("mlflow_run_id", sa.Text(), nullable=False),
        sa.Column("dagster_run_id", sa.Text(), nullable=True),
        sa.Column(
            "decided_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["dataset_run_id"],
            ["processed_feature_data.dataset_run_id"],
        ),
        sa.PrimaryKeyConstraint("dataset_run_id", "candidate_version"),
        comment="Candidate against production and persistence on the same held-out sessions",
    )
    op.create_table(
        "optimization_results",
        sa.Column("dataset_run_id", sa.Text(), nullable=False),
        sa.Column("best_params", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("best_value", sa.Double(), nullable=False),
        sa.Column("trials", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["dataset_run_id"],
            ["processed_feature_data.dataset_run_id"],
        ),
        sa.PrimaryKeyConstraint("dataset_run_id"),
        comment="The best hyperparameters and the whole study",
    )
    op.create_table(
        "scaled_feature_sets",
        sa.Column("dataset_run_id", sa.Text(), nullable=False),
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("first_session", sa.Date(), nullable=False),
        sa.Column("last_session", sa.Date(), nullable=False),
        sa.Column("first_position", sa.Integer(), nullable=False),
        sa.Column("last_position", sa.Integer(), nullable=False),
        sa.Column("purge_sessions", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["dataset_run_id"],
            ["processed_feature_data.dataset_run_id"],
        ),
        sa.PrimaryKeyConstraint("dataset_run_id", "set_name"),
        comment="Train, validation and test stretches (by the last session of a window)",
    )
    op.create_table(
        "scalers",
        sa.Column("dataset_run_id", sa.Text(), nullable=False),
        sa.Column("features", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("target", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["dataset_run_id"],
            ["processed_feature_data.dataset_run_id"],
        ),
        sa.PrimaryKeyConstraint("dataset_run_id"),
        comment="Scaling per ticker and feature, fitted on training sessions only, as numbers",
    )
    op.execute(LATEST_PREDICTIONS)


def downgrade() -> None:
    """Undo."""
    op.execute("DROP VIEW latest_predictions")
    op.drop_table("scalers")
    op.drop_table("scaled_feature_sets")
    op.drop_table("optimization_results")
    op.drop_table("model_promotions")
    op.drop_table("retraining_decisions")
    op.drop_index("raw_stock_data_session", table_name="raw_stock_data")
    op.drop_table("raw_stock_data")
    op.drop_table("processed_feature_data")
    op.drop_index("price_revisions_ticker_session", table_name="price_revisions")
    op.drop_table("price_revisions")
    op.drop_index(op.f("ix_predictions_target_session"), table_name="predictions")
    op.drop_table("predictions")
    op.drop_table("model_performance_log")
