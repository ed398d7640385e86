"""Persistence forecasts as version 0, without a dataset and an MLflow run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from stock_assets.core.errors import StockAssetsError

revision = "0020"
down_revision = "0019"

CAUSES = "'promotion', 'refit', 'person', 'rollback', 'step_down', 'found_outside'"
CAUSES_BEFORE = CAUSES.replace("'step_down', ", "")
TABLES = ("predictions", "model_performance_log")
COLUMNS = ("dataset_run_id", "mlflow_run_id")
_CONSTRAINT = "production_history_cause_check"


def upgrade() -> None:
    """Apply."""
    for table in TABLES:
        for column in COLUMNS:
            op.alter_column(table, column, nullable=True)
    op.drop_constraint(_CONSTRAINT, "production_history")
    op.create_check_constraint(_CONSTRAINT, "production_history", f"cause IN ({CAUSES})")


def downgrade() -> None:
    """Undo.

    Raises
    ------
    StockAssetsError
        Persistence has forecast, or was put in force.
    """
    tables = (*TABLES, "production_history")
    found = " OR ".join(f"EXISTS (SELECT FROM {name} WHERE model_version = 0)" for name in tables)
    stepped = "EXISTS (SELECT FROM production_history WHERE cause = 'step_down')"
    if op.get_bind().scalar(sa.text(f"SELECT {found} OR {stepped}")):
        raise StockAssetsError(
            "the version before this one does not know version 0, which has forecast here",
            "Restore the backup from before the upgrade",
        )
    op.drop_constraint(_CONSTRAINT, "production_history")
    op.create_check_constraint(_CONSTRAINT, "production_history", f"cause IN ({CAUSES_BEFORE})")
    for table in TABLES:
        for column in COLUMNS:
            op.alter_column(table, column, nullable=False)
