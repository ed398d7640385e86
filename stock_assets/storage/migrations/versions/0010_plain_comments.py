"""Plain table comments and names; corporate actions take effect in Python alone."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COMMENTS = {
    "raw_stock_data": (
        "One bar per ticker and session, as traded, with what corporate_actions do to it",
        "One bar per ticker and session, as traded, with the corporate actions in effect on it",
    ),
    "corporate_actions": (
        "Dividends per share, as traded, and split ratios; in force with the first bar "
        "from the ex-date on",
        "Dividends per share, as traded, and split ratios; in effect from the first bar "
        "on or after the ex-date",
    ),
    "instruments": (
        "What prices are in, and since when they were asked for",
        "The currency of each ticker, and the day that its prices were fetched from",
    ),
    "ticker_renames": (
        "Renames that were applied: from its first session on, the history has the new name",
        "Renames that were applied: the ticker has its new name from first_session on",
    ),
    "quarantined_bars": (
        "Bars that broke a rule and were not stored; released when a sound one was",
        "Bars that broke a rule and were not stored; released once a valid bar is stored",
    ),
    "price_revisions": (
        "Every change that a source made to a stored bar",
        "Every change of a value in a stored bar",
    ),
    "optimization_results": (
        "The best hyperparameters and the whole study",
        "The best hyperparameters and every trial of the study",
    ),
    "model_performance_log": (
        "Forecasts that came due against what happened, on the scored session's basis",
        "Forecasts scored against the actual prices, on the scored session's basis",
    ),
    "retraining_decisions": (
        "What the scores up to a session called for; at most one per session",
        "Whether the scores up to a session call for retraining; at most one row per session",
    ),
    "check_results": (
        "What the checks of each run found, of which partitions",
        "The result of each check in each run, and the partitions that it covers",
    ),
    "feature_drift": (
        "How far the newest inputs of a model version are distributed from its training's",
        "How far the newest inputs of a model version are from its training inputs (PSI)",
    ),
}
"""Per table: the comment before and after."""
RULE = ("history is another one", "history is unrelated")
PRODUCT = "AGGREGATE product(double precision)"


def _replace_rule(old: str, new: str) -> None:
    for table, column, kind in (
        ("check_results", "message", "text"),
        ("processed_feature_data", "params", "jsonb"),
    ):
        op.execute(
            f"UPDATE {table} SET {column} = replace({column}::text, '{old}', '{new}')::{kind} "
            f"WHERE {column}::text LIKE '%{old}%'"
        )


def upgrade() -> None:
    """Apply."""
    _replace_rule(*RULE)
    op.alter_column("instruments", "asked_from", new_column_name="fetched_from")
    for table, (before, after) in COMMENTS.items():
        op.create_table_comment(table, after, existing_comment=before)
    op.execute(f"DROP {PRODUCT}")


def downgrade() -> None:
    """Undo."""
    _replace_rule(*reversed(RULE))
    op.execute(f"CREATE {PRODUCT} (sfunc = float8mul, stype = float8)")
    for table, (before, after) in COMMENTS.items():
        op.create_table_comment(table, before, existing_comment=after)
    op.alter_column("instruments", "fetched_from", new_column_name="asked_from")
