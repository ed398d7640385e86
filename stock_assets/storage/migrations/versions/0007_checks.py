"""Check results are stored beside the checked data."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "check_results",
        sa.Column("dagster_run_id", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("check_name", sa.Text(), nullable=False),
        sa.Column("first_partition", sa.Text(), nullable=False),
        sa.Column("last_partition", sa.Text(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column(
            "checked_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.PrimaryKeyConstraint("dagster_run_id", "asset", "check_name"),
        comment="What the checks of each run found, of which partitions",
    )
    op.create_index(
        "check_results_of_check", "check_results", ["asset", "check_name", "checked_at"]
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("check_results")
