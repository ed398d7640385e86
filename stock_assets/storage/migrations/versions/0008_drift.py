"""The drift of the inputs is stored with the forecasts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "feature_drift",
        sa.Column("as_of_session", sa.Date(), nullable=False),
        sa.Column("model_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("feature", sa.Text(), nullable=False),
        sa.Column("psi", sa.Double(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("usual", sa.Double(), nullable=False),
        sa.Column("dagster_run_id", sa.Text()),
        sa.Column(
            "measured_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.PrimaryKeyConstraint("as_of_session", "model_version", "feature"),
        comment="How far the newest inputs of a model version are distributed from its training's",
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("feature_drift")
