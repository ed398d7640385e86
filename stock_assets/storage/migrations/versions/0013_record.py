"""The record: a history of every recorded table, filled by triggers, and a chain of links."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from stock_assets.storage.migrations.recorded import forget_table, record_table, refuse_changes

revision = "0013"
down_revision = "0012"

KEYS = {
    "raw_stock_data": "ticker, session",
    "corporate_actions": "ticker, ex_date, kind",
    "instruments": "ticker",
    "ticker_renames": "old_ticker, first_session",
    "predictions": "as_of_session, ticker, horizon, model_version",
    "model_performance_log": "session, ticker, horizon, model_version",
    "model_promotions": "dataset_run_id, candidate_version",
    "retraining_decisions": "session",
    "processed_feature_data": "dataset_run_id",
    "scalers": "dataset_run_id",
    "scaled_feature_sets": "dataset_run_id, set_name",
    "optimization_results": "dataset_run_id",
}
"""The recorded tables and their keys."""
DERIVED = {"raw_stock_data": ("dividends", "stock_splits")}
TIMES = (
    ("raw_stock_data", "fetched_at"),
    ("corporate_actions", "recorded_at"),
    ("instruments", "first_fetched_at"),
    ("ticker_renames", "applied_at"),
    ("quarantined_bars", "quarantined_at"),
    ("price_revisions", "revised_at"),
    ("processed_feature_data", "created_at"),
    ("scalers", "created_at"),
    ("scaled_feature_sets", "created_at"),
    ("optimization_results", "created_at"),
    ("model_promotions", "decided_at"),
    ("predictions", "predicted_at"),
    ("model_performance_log", "evaluated_at"),
    ("retraining_decisions", "decided_at"),
    ("check_results", "checked_at"),
    ("feature_drift", "measured_at"),
)

FUNCTIONS = """
CREATE FUNCTION record_time() RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT coalesce(nullif(current_setting('stock_assets.written_at', true), '')::timestamptz, now())
$$;

CREATE FUNCTION open_link() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  number text := nullif(current_setting('stock_assets.link', true), '');
BEGIN
  IF number IS NULL THEN
    RAISE EXCEPTION 'a recorded table is written outside the record'
      USING HINT = 'Only stock-assets writes it, in a transaction that adds a link';
  END IF;
  IF EXISTS (SELECT FROM record_links r WHERE r.link = number::bigint) THEN
    RAISE EXCEPTION 'link % of the record is complete', number;
  END IF;
  RETURN number::bigint;
END $$;

-- The columns are those of the history, so that a new column needs no new trigger. States are
-- compared as text, as digests are: 0 and -0, or 1 and 1.0 in JSON, are two states.
CREATE FUNCTION record_rows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  history text := quote_ident(TG_TABLE_NAME || '_history');
  key text; names text; n text; o text; same text; assigned text; conflict text;
BEGIN
  SELECT string_agg(quote_ident(attname), ', '),
         string_agg(format('n.%1$I = o.%1$I', attname), ' AND ')
    INTO key, same
    FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
   WHERE indrelid = history::regclass AND indisprimary AND attname <> 'link';
  SELECT string_agg(quote_ident(attname), ', '), string_agg(format('n.%I', attname), ', '),
         string_agg(format('o.%I', attname), ', '),
         string_agg(format('%1$I = excluded.%1$I', attname), ', ')
    INTO names, n, o, assigned
    FROM pg_attribute
   WHERE attrelid = history::regclass AND attnum > 0 AND NOT attisdropped
     AND attname NOT IN ('link', 'removed');
  -- A row that is written twice within a link has the state that it ends with.
  conflict := format(' ON CONFLICT (%s, link) DO UPDATE SET %s, removed = excluded.removed',
                     key, assigned);
  IF TG_OP = 'INSERT' THEN
    EXECUTE format('INSERT INTO %s (%s, link, removed) SELECT %s, $1, false FROM new_rows n',
                   history, names, n) || conflict USING open_link();
  ELSIF TG_OP = 'UPDATE' THEN
    EXECUTE format('INSERT INTO %s (%s, link, removed) SELECT %s, $1, false FROM new_rows n '
                   'LEFT JOIN old_rows o ON %s WHERE ROW(%s)::text <> ROW(%s)::text',
                   history, names, n, same, n, o) || conflict USING open_link();
    EXECUTE format('INSERT INTO %s (%s, link, removed) SELECT %s, $1, true FROM old_rows o '
                   'WHERE NOT EXISTS (SELECT FROM new_rows n WHERE %s)',
                   history, names, o, same) || conflict USING open_link();
  ELSE
    EXECUTE format('INSERT INTO %s (%s, link, removed) SELECT %s, $1, true FROM old_rows o',
                   history, names, o) || conflict USING open_link();
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND TG_TABLE_NAME <> 'record_links' THEN
    IF OLD.link = open_link() AND NEW.link = OLD.link THEN
      RETURN NEW;
    END IF;
  END IF;
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;

CREATE FUNCTION require_open_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM new_rows WHERE link <> open_link()) THEN
    RAISE EXCEPTION '% is written outside the record', TG_TABLE_NAME;
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% belongs to the record: rows are removed with DELETE', TG_TABLE_NAME;
END $$;
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "record_links",
        sa.Column("link", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dagster_run_id", sa.Text()),
        sa.Column("note", sa.Text()),
        sa.Column("tables", JSONB(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.UniqueConstraint("written_at", name="record_links_written_at_key"),
        comment="One row per transaction that changed a recorded table, chained by digests",
    )
    op.execute(FUNCTIONS)
    refuse_changes("record_links")
    for table, column in TIMES:
        op.alter_column(table, column, server_default=sa.text("record_time()"))
    for table in KEYS:
        record_table(table, KEYS[table], DERIVED.get(table, ()))
    op.create_index(
        "raw_stock_data_history_session", "raw_stock_data_history", ["session", "ticker", "link"]
    )


def downgrade() -> None:
    """Undo; what only the histories hold is lost."""
    for table in KEYS:
        forget_table(table)
    for table, column in TIMES:
        op.alter_column(table, column, server_default=sa.text("now()"))
    op.drop_table("record_links")
    for function in (
        *("refuse_truncate()", "refuse_changes()", "require_open_link()", "record_rows()"),
        *("open_link()", "record_time()"),
    ):
        op.execute(f"DROP FUNCTION {function}")
