"""Datasets record the moment whose prices they were built from; unknown for earlier ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from stock_assets.storage.migrations.recorded import refuse_if_recorded

revision = "0015"
down_revision = "0014"

TABLES = ("processed_feature_data", "processed_feature_data_history")


def upgrade() -> None:
    """Apply."""
    for table in TABLES:
        op.add_column(table, sa.Column("known_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Undo."""
    refuse_if_recorded()
    for table in TABLES:
        op.drop_column(table, "known_at")
