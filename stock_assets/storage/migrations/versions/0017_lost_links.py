"""Links name others that were accepted as lost, after an older backup was restored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from stock_assets.storage.migrations.recorded import refuse_if_recorded

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Apply; no earlier link accepts any."""
    op.add_column("record_links", sa.Column("lost_links", JSONB()))


def downgrade() -> None:
    """Undo, unless there are links."""
    refuse_if_recorded()
    op.drop_column("record_links", "lost_links")
