"""Stage 6: forecasts that came due on a trading day, against what happened."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from stock_assets.core.errors import StockAssetsError
from stock_assets.defs.forecasting.forecasts import predictions
from stock_assets.defs.metadata import DAILY, lineage, sessions_of, table
from stock_assets.defs.partitions import forecast_sessions
from stock_assets.defs.prices.assets import raw_prices
from stock_assets.defs.resources import Store

if TYPE_CHECKING:
    import pandas as pd


@dg.asset(
    **DAILY,
    group_name="monitoring",
    kinds={"pandas", "postgres"},
    code_version="1",
    deps=[
        raw_prices,
        dg.AssetDep(predictions, partition_mapping=forecast_sessions),
    ],
    description=(
        "Forecasts whose **target** is the partition's session, made as of the one before and, "
        "with longer horizons, as of earlier ones, against the close, beside persistence, on one "
        "basis across splits and dividends. A sensor watches this log and launches retraining when "
        "the scores break the thresholds."
    ),
)
def performance_log(
    context: dg.AssetExecutionContext, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Score what came due on the run's sessions."""
    from stock_assets.evaluation.scoring import score_due
    from stock_assets.market.bars import content_digest
    from stock_assets.storage.forecasts import forecasts_due, save_performance
    from stock_assets.storage.prices import read_bars

    sessions = sessions_of(context)
    due = forecasts_due(store.engine, sessions)
    first = sessions[0] if due.empty else due["as_of_session"].min().date()
    bars = read_bars(store.engine, first, sessions[-1])
    _require_bars(bars, sorted(set(due["target_session"].dt.date)))
    rows = score_due(due, bars)
    save_performance(store.engine, rows, sessions, context.run.run_id)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(content_digest(rows)),
        metadata=lineage(
            first_session=sessions[0],
            last_session=sessions[-1],
            forecasts_due=len(due),
            forecasts_scored=len(rows),
            forecasts_without_a_close=len(due) - len(rows),
            **_scores(rows),
        ),
    )


def _require_bars(bars: "pd.DataFrame", sessions: Sequence[date]) -> None:
    """Fail when a session with due forecasts has no bar: its scores, if any, are left alone."""
    stored = set(bars["session"].dt.date)
    missing = next((session for session in sessions if session not in stored), None)
    if missing is not None:
        raise StockAssetsError(
            f"no bar is stored for {missing}, so the forecasts due on it cannot be scored",
            f"Store it first: stock-assets backfill raw_prices --from {missing} --to {missing}",
        )


def _scores(rows: "pd.DataFrame") -> dict[str, Any]:
    """Scores of the newest model, beside persistence's, and of every model per ticker.

    Several models may have forecast the same session: pooled, its outcome would count twice.
    """
    import pandas as pd

    from stock_assets.evaluation.metrics import (
        by_ticker,
        persistence_forecasts,
        score_rows,
        summarise,
    )

    if rows.empty:
        return {"scores": "no forecast was due"}
    newest = rows["model_version"].max()
    own = rows[rows["model_version"] == newest]
    model = summarise(own)
    persistence = summarise(score_rows(persistence_forecasts(own)))
    tickers = [
        by_ticker(group).assign(model_version=version)
        for version, group in rows.groupby("model_version")
    ]
    return {
        "model_version": int(newest),
        "mape": model.mape,
        "persistence_mape": persistence.mape,
        "relative_mae": model.relative_mae,
        "direction_accuracy": model.direction_accuracy,
        "base_rate_up": model.base_rate_up,
        "coverage": model.coverage,
        "per_ticker": table(pd.concat(tickers, ignore_index=True)),
    }
