"""The build environment of a dataset: digests of the code, versions of the libraries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    op.add_column("processed_feature_data", sa.Column("made_with", JSONB(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("processed_feature_data", "made_with")
