"""Usual names of columns, scores and parameters; nothing else changes."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = (
    ("processed_feature_data", "made_with", "build_environment"),
    ("processed_feature_data", "anchors", "adjustment_factors"),
    ("check_results", "told", "message"),
    ("feature_drift", "usual", "baseline_p95"),
)
SCORES = (
    ("model_promotions", "candidate"),
    ("model_promotions", "production"),
    ("model_promotions", "persistence"),
    ("retraining_decisions", "metrics"),
)
PROSE = (
    ("model_promotions", "reason"),
    ("retraining_decisions", "reason"),
)
SEGMENTS = "scaled_feature_sets"
COMMENT_BEFORE = "Train, validation and test stretches (by the last session of a window)"
COMMENT = "Train, validation and test segments (by the last session of a window)"
CHECKS = (("scalers_know_training_alone", "scalers_fit_on_train_only"),)


def _rename(columns: tuple[tuple[str, str, str], ...]) -> None:
    for table, old, new in columns:
        op.alter_column(table, old, new_column_name=new)


def _replace(table: str, column: str, old: str, new: str, kind: str = "jsonb") -> None:
    op.execute(
        f"UPDATE {table} SET {column} = replace({column}::text, '{old}', '{new}')::{kind} "
        f"WHERE {column}::text LIKE '%{old}%'"
    )


def _rewrite(score: tuple[str, str], name: tuple[str, str]) -> None:
    for table, column in SCORES:
        _replace(table, column, f'"{score[0]}":', f'"{score[1]}":')
    for key in ('{}_max":', '{}"'):
        old, new = ('"' + key.format(one) for one in score)
        _replace("processed_feature_data", "params", old, new)
    op.execute(f"UPDATE model_promotions SET metric = '{score[1]}' WHERE metric = '{score[0]}'")
    for table, column in PROSE:
        _replace(table, column, *name, "text")
    _replace("retraining_decisions", "breaches", *name)


def upgrade() -> None:
    """Rename."""
    _rename(COLUMNS)
    op.create_table_comment(SEGMENTS, COMMENT, existing_comment=COMMENT_BEFORE)
    _rewrite(("mase", "relative_mae"), ("MASE", "relative MAE"))
    for old, new in CHECKS:
        op.execute(f"UPDATE check_results SET check_name = '{new}' WHERE check_name = '{old}'")


def downgrade() -> None:
    """Rename back."""
    op.create_table_comment(SEGMENTS, COMMENT_BEFORE, existing_comment=COMMENT)
    _rename(tuple((table, new, old) for table, old, new in COLUMNS))
    _rewrite(("relative_mae", "mase"), ("relative MAE", "MASE"))
    for old, new in CHECKS:
        op.execute(f"UPDATE check_results SET check_name = '{old}' WHERE check_name = '{new}'")
