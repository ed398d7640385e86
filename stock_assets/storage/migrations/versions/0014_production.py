"""The history of production is a table, filled from the promotions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from stock_assets.storage.migrations.recorded import forget_table, record_table, refuse_if_recorded

revision = "0014"
down_revision = "0013"

_CAUSES = "'promotion', 'refit', 'person', 'rollback', 'found_outside'"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "production_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Integer()),
        sa.Column("dataset_run_id", sa.Text()),
        sa.Column("digest", sa.Text()),
        sa.Column("mlflow_run_id", sa.Text()),
        sa.Column("refit_of", sa.Integer()),
        sa.Column("from_session", sa.Date()),
        sa.Column("until_session", sa.Date()),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.Text()),
        sa.Column("why", sa.Text()),
        sa.Column("dagster_run_id", sa.Text()),
        sa.Column(
            "in_force_from",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("record_time()"),
        ),
        sa.CheckConstraint(f"cause IN ({_CAUSES})", name="production_history_cause_check"),
        comment="Every change of the version in force, and why; empty version: none any more",
    )
    _adopt_promotions()
    record_table("production_history", "id")
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$; "
        "CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON production_history "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )


def _adopt_promotions() -> None:
    """Put what the promotions say into the history; they recorded no digest.

    A winner took over production if it had met the version in production, or if there was none;
    otherwise production was newer and stayed. A change by hand was not recorded. It is found when
    the alias is next compared with the history. A record that has begun cannot take rows of the
    past: there, the history begins with the alias.
    """
    connection = op.get_bind()
    if connection.scalar(sa.text("SELECT count(*) FROM record_links")):
        return
    query = sa.text(
        "SELECT * FROM model_promotions WHERE promoted ORDER BY decided_at, candidate_version"
    )
    in_production: dict[str, dict[str, Any]] = {}
    for row in connection.execute(query).mappings().all():
        name, version = row["model_name"], row["refit_version"] or row["candidate_version"]
        current = in_production.get(name)
        newer = (
            current is not None
            and row["production_version"] != current["promoted_version"]
            and current["as_of_session"] > row["as_of_session"]
        )
        change = {
            "model_name": name,
            "model_version": version,
            "dataset_run_id": row["dataset_run_id"],
            "mlflow_run_id": row["mlflow_run_id"],
            "refit_of": row["candidate_version"] if row["refit_version"] else None,
            "from_session": row["as_of_session"],
            "until_session": current["as_of_session"] if current is not None and newer else None,
            "cause": "refit" if row["refit_version"] else "promotion",
            "dagster_run_id": row["dagster_run_id"],
            "in_force_from": row["decided_at"],
        }
        connection.execute(
            sa.text(
                f"INSERT INTO production_history ({', '.join(change)}) "
                f"VALUES ({', '.join(f':{column}' for column in change)})"
            ),
            change,
        )
        if not newer:
            in_production[name] = {**row, "promoted_version": version}


def downgrade() -> None:
    """Undo; the history of changes that no promotion made is lost."""
    refuse_if_recorded()
    forget_table("production_history")
    op.drop_table("production_history")
    op.execute("DROP FUNCTION refuse_change()")
