"""The histories of the recorded tables: every state that their rows have had."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, text

from stock_assets.storage.tables import (
    corporate_actions,
    forecast_issues,
    instruments,
    metadata,
    model_performance_log,
    model_promotions,
    optimization_results,
    predictions,
    processed_feature_data,
    production_history,
    raw_stock_data,
    retraining_decisions,
    scaled_feature_sets,
    scalers,
    ticker_renames,
)


def _history(table: Table, *, derived: tuple[str, ...] = ()) -> Table:
    """Define the table that keeps every state of a recorded table's rows, but `derived` columns."""
    key = {column.name for column in table.primary_key}
    columns = [
        Column(column.name, column.type, primary_key=column.name in key, autoincrement=False)
        for column in table.columns
        if column.name not in derived
    ]
    return Table(
        f"{table.name}_history",
        metadata,
        *columns,
        Column("link", BigInteger, primary_key=True, autoincrement=False),
        Column("removed", Boolean, nullable=False),
        Index(f"{table.name}_history_link", "link"),
        comment=f"Every state of the rows of {table.name}, append-only",
    )


HISTORIES = {
    raw_stock_data: _history(raw_stock_data, derived=("dividends", "stock_splits")),
    **{
        table: _history(table)
        for table in (
            corporate_actions,
            instruments,
            ticker_renames,
            forecast_issues,
            predictions,
            model_performance_log,
            model_promotions,
            retraining_decisions,
            processed_feature_data,
            scalers,
            scaled_feature_sets,
            optimization_results,
            production_history,
        )
    },
}
"""The history of each recorded table; :mod:`stock_assets.storage.record` says how it is written."""

Index(
    "predictions_history_live",
    HISTORIES[predictions].c.target_session,
    postgresql_where=text("issued = 'live' AND NOT removed"),
)
Index(
    "raw_stock_data_history_session",
    *(HISTORIES[raw_stock_data].c[name] for name in ("session", "ticker", "link")),
)
