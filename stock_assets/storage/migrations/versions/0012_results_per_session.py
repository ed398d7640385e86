"""A check has one row per span of partitions with the same result; searches keep their settings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"

_UNPLACED = " (an error of some session of the range)"
_OLD_KEY = ["dagster_run_id", "asset", "check_name"]


def upgrade() -> None:
    """Apply."""
    op.drop_constraint("check_results_pkey", "check_results", type_="primary")
    op.create_primary_key("check_results_pkey", "check_results", [*_OLD_KEY, "first_partition"])
    op.add_column("optimization_results", sa.Column("settings", JSONB()))
    # An error of a range did not say which session it was about: it must not refuse all of them.
    op.execute(
        f"UPDATE check_results SET severity = 'warning', message = message || '{_UNPLACED}' "
        "WHERE NOT passed AND severity = 'error' AND first_partition <> last_partition"
    )


def downgrade() -> None:
    """Undo; of the spans of one check in one run, a failed one is kept."""
    op.drop_column("optimization_results", "settings")
    op.execute(
        "UPDATE check_results SET severity = 'error', "
        f"message = left(message, -{len(_UNPLACED)}) WHERE message LIKE '%{_UNPLACED}'"
    )
    op.execute(
        "DELETE FROM check_results WHERE ctid NOT IN (SELECT DISTINCT ON (dagster_run_id, asset,"
        " check_name) ctid FROM check_results ORDER BY dagster_run_id, asset, check_name, passed,"
        " first_partition)"
    )
    op.drop_constraint("check_results_pkey", "check_results", type_="primary")
    op.create_primary_key("check_results_pkey", "check_results", _OLD_KEY)
