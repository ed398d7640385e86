"""The refit of a promoted candidate is recorded with its decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply."""
    op.add_column("model_promotions", sa.Column("refit_version", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("model_promotions", "refit_version")
