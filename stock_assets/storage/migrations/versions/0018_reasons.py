"""Issues record who started their run; each has a separate reason."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from stock_assets.storage.migrations.recorded import refuse_if_recorded

revision = "0018"
down_revision = "0017"

TABLES = ("forecast_issues", "forecast_issues_history")
CHECK = "forecast_issues_reason_check"
BEFORE = "'scheduled', 'backfill', 'rerun', 'rollback'"
AFTER = (
    "'scheduled', 'backfill', 'manual', 'model', 'rollback', 'revision', 'parameters', "
    "'environment', 'rerun'"
)
COMMENTS = (
    "What forecasts were issued with: one row per model version and transaction",
    "What forecasts were issued with: one row per model version, reason and transaction",
)


def upgrade() -> None:
    """Apply; earlier reasons stay, and who started earlier runs is unknown."""
    for table in TABLES:
        op.add_column(table, sa.Column("started_by", sa.Text()))
    op.drop_constraint(CHECK, "forecast_issues")
    op.create_check_constraint(CHECK, "forecast_issues", f"reason IN ({AFTER})")
    op.create_table_comment("forecast_issues", COMMENTS[1], existing_comment=COMMENTS[0])


def downgrade() -> None:
    """Undo; who started runs is lost. Reasons stay: only new rows are checked."""
    refuse_if_recorded()
    op.create_table_comment("forecast_issues", COMMENTS[0], existing_comment=COMMENTS[1])
    op.drop_constraint(CHECK, "forecast_issues")
    op.create_check_constraint(
        CHECK, "forecast_issues", f"reason IN ({BEFORE})", postgresql_not_valid=True
    )
    for table in TABLES:
        op.drop_column(table, "started_by")
