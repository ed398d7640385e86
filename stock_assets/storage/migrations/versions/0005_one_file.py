"""A dataset is one array file: scaled panels and readable copies are made on demand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_BEFORE = "The feature panel of a dataset; the arrays are a tensor file and a Parquet file"
_NOW = "The feature panel of a dataset; its arrays are one memory-mapped file"


def upgrade() -> None:
    """Apply."""
    op.drop_column("processed_feature_data", "frame_location")
    op.drop_column("scaled_feature_sets", "location")
    op.create_table_comment("processed_feature_data", _NOW, existing_comment=_BEFORE)


def downgrade() -> None:
    """Undo: where files are that were written before is not known any more."""
    op.create_table_comment("processed_feature_data", _BEFORE, existing_comment=_NOW)
    op.add_column(
        "processed_feature_data",
        sa.Column("frame_location", sa.Text(), nullable=False, server_default=""),
    )
    op.add_column(
        "scaled_feature_sets",
        sa.Column("location", sa.Text(), nullable=False, server_default=""),
    )
