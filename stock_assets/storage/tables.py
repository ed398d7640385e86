"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from stock_assets.storage.column_docs import DOCS

metadata = MetaData()


def _written(name: str) -> Column[object]:
    """When the row was first written, set by the database; in the record, the time of its link."""
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.record_time())


record_links = Table(
    "record_links",
    metadata,
    Column("link", BigInteger, primary_key=True, autoincrement=False),
    Column("written_at", DateTime(timezone=True), nullable=False, unique=True),
    Column("dagster_run_id", Text),
    Column("note", Text),
    Column("tables", JSONB, nullable=False),
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("lost_links", JSONB(none_as_null=True)),
    comment="One row per transaction that changed a recorded table, chained by digests",
)


raw_stock_data = Table(
    "raw_stock_data",
    metadata,
    Column("ticker", Text, primary_key=True),
    Column("session", Date, primary_key=True),
    *(Column(name, Double, nullable=False) for name in ("open", "high", "low", "close", "volume")),
    *(
        Column(name, Double, nullable=False, server_default="0")
        for name in ("dividends", "stock_splits")
    ),
    Column("source", Text, nullable=False),
    Column("dagster_run_id", Text),
    _written("fetched_at"),
    Index("raw_stock_data_session", "session"),
    comment="One bar per ticker and session, as traded, with the corporate actions in effect on it",
)

corporate_actions = Table(
    "corporate_actions",
    metadata,
    Column("ticker", Text, primary_key=True),
    Column("ex_date", Date, primary_key=True),
    Column("kind", Text, CheckConstraint("kind IN ('dividend', 'split')"), primary_key=True),
    Column("value", Double, CheckConstraint("value > 0"), nullable=False),
    Column("source", Text, nullable=False),
    Column("dagster_run_id", Text),
    _written("recorded_at"),
    comment="Dividends per share, as traded, and split ratios; in effect from the first bar on or "
    "after the ex-date",
)

instruments = Table(
    "instruments",
    metadata,
    Column("ticker", Text, primary_key=True),
    Column("currency", Text, nullable=False),
    Column("fetched_from", Date, nullable=False),
    Column("source", Text, nullable=False),
    Column("dagster_run_id", Text),
    _written("first_fetched_at"),
    comment="The currency of each ticker, and the day that its prices were fetched from",
)

ticker_renames = Table(
    "ticker_renames",
    metadata,
    Column("old_ticker", Text, primary_key=True),
    Column("new_ticker", Text, nullable=False),
    Column("first_session", Date, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("dagster_run_id", Text),
    _written("applied_at"),
    comment="Renames that were applied: the ticker has its new name from first_session on",
)

quarantined_bars = Table(
    "quarantined_bars",
    metadata,
    Column("ticker", Text, primary_key=True),
    Column("session", Date, primary_key=True),
    Column("rule", Text, primary_key=True),
    Column("detail", Text, primary_key=True),
    *(
        Column(name, Double)
        for name in ("open", "high", "low", "close", "volume", "dividends", "stock_splits")
    ),
    Column("source", Text, nullable=False),
    Column("dagster_run_id", Text),
    _written("quarantined_at"),
    Column("released_at", DateTime(timezone=True)),
    comment="Bars that broke a rule and were not stored; released once a valid bar is stored",
)

price_revisions = Table(
    "price_revisions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("ticker", Text, nullable=False),
    Column("session", Date, nullable=False),
    Column("field", Text, nullable=False),
    Column("old_value", Double, nullable=False),
    Column("new_value", Double, nullable=False),
    Column("dagster_run_id", Text),
    _written("revised_at"),
    Index("price_revisions_ticker_session", "ticker", "session"),
    comment="Every change of a value in a stored bar",
)

processed_feature_data = Table(
    "processed_feature_data",
    metadata,
    Column("dataset_run_id", Text, primary_key=True),
    Column("as_of_session", Date, nullable=False),
    Column("first_session", Date, nullable=False),
    Column("last_session", Date, nullable=False),
    Column("bars", Integer, nullable=False),
    Column("tickers", JSONB, nullable=False),
    Column("features", JSONB, nullable=False),
    Column("basis", Text, nullable=False),
    Column("adjustment_factors", JSONB, nullable=False),
    Column("target", Text, nullable=False),
    Column("params", JSONB, nullable=False),
    Column("bars_digest", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("location", Text, nullable=False),
    _written("created_at"),
    Column("build_environment", JSONB),
    Column("known_at", DateTime(timezone=True)),
    comment="The feature panel of a dataset; its arrays are one memory-mapped file",
)


def _dataset() -> Column[object]:
    return Column(
        "dataset_run_id",
        Text,
        ForeignKey("processed_feature_data.dataset_run_id"),
        primary_key=True,
    )


scalers = Table(
    "scalers",
    metadata,
    _dataset(),
    Column("features", JSONB, nullable=False),
    Column("target", JSONB, nullable=False),
    Column("digest", Text, nullable=False),
    _written("created_at"),
    comment="Scaling per ticker and feature, fitted on training sessions only, as numbers",
)

scaled_feature_sets = Table(
    "scaled_feature_sets",
    metadata,
    _dataset(),
    Column("set_name", Text, primary_key=True),
    Column("first_session", Date, nullable=False),
    Column("last_session", Date, nullable=False),
    Column("first_position", Integer, nullable=False),
    Column("last_position", Integer, nullable=False),
    Column("purge_sessions", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    _written("created_at"),
    comment="Train, validation and test segments (by the last session of a window)",
)

optimization_results = Table(
    "optimization_results",
    metadata,
    _dataset(),
    Column("best_params", JSONB, nullable=False),
    Column("best_value", Double, nullable=False),
    Column("trials", JSONB, nullable=False),
    _written("created_at"),
    Column("settings", JSONB),
    comment="The best hyperparameters and every trial of the study",
)

model_promotions = Table(
    "model_promotions",
    metadata,
    _dataset(),
    Column("candidate_version", Integer, primary_key=True, autoincrement=False),
    Column("refit_version", Integer),
    Column("as_of_session", Date, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("production_version", Integer),
    Column("metric", Text, nullable=False),
    Column("candidate", JSONB, nullable=False),
    Column("production", JSONB),
    Column("persistence", JSONB, nullable=False),
    Column("first_session", Date, nullable=False),
    Column("last_session", Date, primary_key=True),
    Column("promoted", Boolean, nullable=False),
    Column("decision", JSONB, nullable=False),
    Column("mlflow_run_id", Text, nullable=False),
    Column("dagster_run_id", Text),
    _written("decided_at"),
    comment="Candidate against production and persistence on the same sessions, by decision",
)


production_history = Table(
    "production_history",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("model_version", Integer),
    Column("dataset_run_id", Text),
    Column("digest", Text),
    Column("mlflow_run_id", Text),
    Column("refit_of", Integer),
    Column("from_session", Date),
    Column("until_session", Date),
    Column(
        "cause",
        Text,
        CheckConstraint(
            "cause IN ('promotion', 'refit', 'person', 'rollback', 'step_down', 'found_outside')"
        ),
        nullable=False,
    ),
    Column("changed_by", Text),
    Column("why", Text),
    Column("dagster_run_id", Text),
    _written("in_force_from"),
    comment="Every change of the version in force, and why; empty version: none any more",
)


def _forecast_key(session: str) -> tuple[Column[object], ...]:
    return (
        Column(session, Date, primary_key=True),
        Column("ticker", Text, primary_key=True),
        Column("horizon", Integer, primary_key=True),
        Column("model_version", Integer, primary_key=True),
        Column("dataset_run_id", Text),
        Column("mlflow_run_id", Text),
    )


forecast_issues = Table(
    "forecast_issues",
    metadata,
    Column("issue", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "reason",
        Text,
        CheckConstraint(
            "reason IN ('scheduled', 'backfill', 'manual', 'model', 'rollback', 'revision', "
            "'parameters', 'environment', 'rerun')"
        ),
    ),
    Column("known_at", DateTime(timezone=True)),
    Column("params", JSONB),
    Column("params_digest", Text),
    Column("build_environment", JSONB),
    Column("torch", Text),
    Column("device", Text),
    Column("dagster_run_id", Text),
    _written("issued_at"),
    Column("started_by", Text),
    comment="What forecasts were issued with: one row per model version, reason and transaction",
)


def _issued() -> tuple[Column[object], ...]:
    return (
        Column("issue", BigInteger),
        Column("issued", Text, CheckConstraint("issued IN ('live', 'backfilled')")),
    )


def _role() -> Column[object]:
    return Column("role", Text, CheckConstraint("role IN ('production', 'shadow')"))


predictions = Table(
    "predictions",
    metadata,
    *_forecast_key("as_of_session"),
    Column("target_session", Date, nullable=False, index=True),
    Column("last_close", Double, nullable=False),
    Column("predicted_return", Double, nullable=False),
    Column("predicted_price", Double, nullable=False),
    Column("lower_price", Double, nullable=False),
    Column("upper_price", Double, nullable=False),
    Column("coverage", Double, nullable=False),
    Column("dagster_run_id", Text),
    _written("predicted_at"),
    *_issued(),
    Column("intervals", JSONB(none_as_null=True)),
    _role(),
    Index(
        "predictions_of_ticker",
        *("ticker", "as_of_session", "predicted_at", "model_version"),
    ),
    Index("predictions_of_version", "model_version", "as_of_session"),
    comment="Forecasts, in the shares of the as-of session",
)

model_performance_log = Table(
    "model_performance_log",
    metadata,
    *_forecast_key("session"),
    Column("as_of_session", Date, nullable=False),
    *(
        Column(name, Double, nullable=False)
        for name in ("actual", "predicted", "persistence", "lower", "upper")
    ),
    Column("absolute_error", Double, nullable=False),
    Column("absolute_percentage_error", Double, nullable=False),
    Column("squared_error", Double, nullable=False),
    Column("persistence_absolute_error", Double, nullable=False),
    Column("direction_hit", Double),
    Column("covered", Double, nullable=False),
    Column("dagster_run_id", Text),
    _written("evaluated_at"),
    *_issued(),
    _role(),
    Index("model_performance_log_of_version", "model_version", "session"),
    comment="Forecasts scored against the actual prices, on the scored session's basis",
)

retraining_decisions = Table(
    "retraining_decisions",
    metadata,
    Column("session", Date, primary_key=True),
    Column("retrain", Boolean, nullable=False),
    Column("decision", JSONB, nullable=False),
    Column("dataset_run_id", Text),
    _written("decided_at"),
    comment="Whether the scores up to a session call for retraining; at most one row per session",
)

check_results = Table(
    "check_results",
    metadata,
    Column("dagster_run_id", Text, primary_key=True),
    Column("asset", Text, primary_key=True),
    Column("check_name", Text, primary_key=True),
    Column("first_partition", Text, primary_key=True),
    Column("last_partition", Text, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("severity", Text, nullable=False),
    Column("message", Text, nullable=False),
    _written("checked_at"),
    Index("check_results_of_check", "asset", "check_name", "checked_at"),
    comment="The result of each check in each run, and the partitions that it covers",
)

feature_drift = Table(
    "feature_drift",
    metadata,
    Column("as_of_session", Date, primary_key=True),
    Column("model_version", Integer, primary_key=True, autoincrement=False),
    Column("feature", Text, primary_key=True),
    Column("psi", Double, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("baseline_p95", Double, nullable=False),
    Column("dagster_run_id", Text),
    _written("measured_at"),
    comment="How far the newest inputs of a model version are from its training inputs (PSI)",
)

for _table in metadata.tables.values():
    for _column in _table.columns:
        _column.doc = DOCS.get(_column.name)
