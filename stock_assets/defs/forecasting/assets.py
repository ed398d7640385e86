"""Forecasts of the coming sessions, and the scores of those that came due."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import dagster as dg
import pandas as pd

from stock_assets.config import Params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.defs.checks import (
    enforce_session_checks,
    refused_upstream,
    require_passed,
)
from stock_assets.defs.forecasting.checks import SOUND, SPECS, sound
from stock_assets.defs.metadata import (
    USER_TAG,
    add_session_metadata,
    daily,
    describe_table,
    head_metadata,
    plain_metadata,
    sessions_of,
    table,
)
from stock_assets.defs.partitions import session_key
from stock_assets.defs.promotion.timeline import report_changes
from stock_assets.defs.resources import Store
from stock_assets.evaluation.forecast_issues import Reason, count_backfilled
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.market import calendar
from stock_assets.market.bars import content_digest
from stock_assets.pipeline.recovery import checked_history
from stock_assets.registry import Registry
from stock_assets.storage import tables
from stock_assets.storage.forecast_issues import Issue
from stock_assets.storage.forecasts import save_performance, write_forecast_files
from stock_assets.storage.production import ProductionChange
from stock_assets.storage.renames import apply_renames
from stock_assets.storage.shadows import current_shadow

DRIFTING_FEATURES = 10
"""Features of the newest session whose drift is metadata of the materialization."""


def predictions_asset(days: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    """Build ``predictions``, with one partition per trading day."""

    @dg.asset(
        **daily(days),
        group_name="serving",
        kinds={"pytorch", "postgres"},
        code_version="3",
        metadata=describe_table(tables.predictions),
        deps=["raw_prices", "production_model"],
        description=(
            "Per ticker, the forecasts of the sessions after the partition's, as far ahead as the "
            "model was trained for, with intervals and model version. The model is the one in "
            "production if it saw nothing later than the session, otherwise the newest that was "
            "ever in force and did not, or else persistence (version 0). Forecasts of the next "
            "session are also written as `latest_predictions.json` and `historical/{date}.json`. "
            "Feature drift against the training sessions is stored with them."
        ),
        check_specs=SPECS,
    )
    def predictions(
        context: dg.AssetExecutionContext,
        params: dg.ResourceParam[Params],
        store: dg.ResourceParam[Store],
        registry: dg.ResourceParam[Registry],
    ) -> Iterator[dg.AssetCheckResult | dg.AssetMaterialization | dg.MaterializeResult]:
        """Forecast as of each of the run's sessions, and store the valid forecasts."""
        from stock_assets.pipeline.forecasting import make_forecasts, store_forecasts
        from stock_assets.pipeline.shadow import store_shadow_forecasts

        sessions, tickers = sessions_of(context), params.prices.tickers
        refused = refused_upstream(store, "raw_prices", context.partition_keys)
        sessions = [day for day in sessions if session_key(day) not in refused]
        apply_renames(store.engine, params.prices.renames, context.run.run_id)
        history = checked_history(store.engine, registry, context.run.run_id)
        report_changes(context.instance, store.engine, history, context.log_event)
        made = make_forecasts(store.engine, registry, history, sessions, params)
        valid, invalid = made.valid(), made.invalid_sessions
        shadow = _forecast_in_shadow(
            context, store, registry, history, sessions, tickers, made.issue
        )
        run, tags = context.run.run_id, context.run.tags
        store_forecasts(
            store.engine, valid, tickers, run, reason_of(tags), started_by=tags.get(USER_TAG)
        )
        for model, rows in shadow.items():
            store_shadow_forecasts(
                *(store.engine, rows, model, tickers, made.issue, run),
                *(reason_of(tags), tags.get(USER_TAG)),
            )
        if not valid.rows.empty:
            write_forecast_files(find_locations().forecasts_folder, valid.rows)
        failed = {SOUND: invalid} if invalid else {}
        yield from enforce_session_checks(
            context, store, [sound(made.invalid)], failed, valid.rows, "as_of_session", refused
        )
        add_session_metadata(context, made.rows, "as_of_session")
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(content_digest(made.rows)),
            metadata=plain_metadata(
                first_session=sessions[0],
                last_session=sessions[-1],
                forecasts=len(made.rows),
                forecasts_in_shadow=sum(map(len, shadow.values())),
                not_forecast=dg.MetadataValue.json(made.missing(tickers)),
                model_versions=", ".join(str(model.version) for model in made.models),
                models=", ".join(map(str, made.models)),
                dataset_run_ids=", ".join(
                    m.dataset_run_id for m in made.models if m.dataset_run_id
                ),
                mlflow_run_ids=", ".join(m.mlflow_run_id for m in made.models if m.mlflow_run_id),
                newest=table(made.newest),
                strongest_drift=table(made.strongest_drift, DRIFTING_FEATURES),
                known_at=made.issue.known_at,
                **head_metadata(store.engine),
            ),
        )

    return predictions


def performance_log_asset(
    days: dg.TimeWindowPartitionsDefinition, reaching: dg.TimeWindowPartitionMapping
) -> dg.AssetsDefinition:
    """Build ``performance_log``, with one partition per trading day.

    Parameters
    ----------
    days : TimeWindowPartitionsDefinition
        Trading days.
    reaching : TimeWindowPartitionMapping
        From a session to those before it whose forecasts reach it.
    """

    @dg.asset(
        **daily(days),
        group_name="monitoring",
        kinds={"pandas", "postgres"},
        code_version="1",
        metadata=describe_table(tables.model_performance_log),
        deps=["raw_prices", dg.AssetDep("predictions", partition_mapping=reaching)],
        description=(
            "Forecasts whose target is the partition's session, against its close, with "
            "persistence, on one basis across splits and dividends. They were made as of the "
            "session before and, with longer horizons, of earlier ones. A sensor watches this log "
            "and launches retraining when they show that forecasts have become worse."
        ),
    )
    def performance_log(
        context: dg.AssetExecutionContext, store: dg.ResourceParam[Store]
    ) -> dg.MaterializeResult:
        """Score the forecasts that came due on the run's sessions."""
        from stock_assets.pipeline.forecasting import (
            newest_scores,
            score_sessions,
            scores_by_ticker,
        )

        sessions = sessions_of(context)
        require_passed(store, {"raw_prices": context.partition_keys})
        require_passed(store, {"predictions": _forecast_from(sessions, reaching)})
        due, scored = score_sessions(store.engine, sessions)
        save_performance(store.engine, scored, sessions, context.run.run_id)
        add_session_metadata(context, scored, "session")
        if scored.empty:
            scores = {"scores": "no forecast was due"}
        else:
            scores = newest_scores(scored) | {"per_ticker": table(scores_by_ticker(scored))}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content_digest(scored)),
            metadata=plain_metadata(
                first_session=sessions[0],
                last_session=sessions[-1],
                forecasts_due=len(due),
                forecasts_scored=len(scored),
                forecasts_without_a_close=len(due) - len(scored),
                backfilled=count_backfilled(scored),
                **head_metadata(store.engine),
                **scores,
            ),
        )

    return performance_log


def _forecast_in_shadow(
    context: dg.AssetExecutionContext,
    store: Store,
    registry: Registry,
    history: Sequence[ProductionChange],
    sessions: Sequence[date],
    tickers: Sequence[str],
    issue: Issue,
) -> dict[ModelVersion, pd.DataFrame]:
    """Forecast with the version in shadow, if there is one; its failure is not production's."""
    from stock_assets.pipeline.shadow import forecast_in_shadow

    try:
        shadow = current_shadow(store.engine, registry.model_name, history)
        if shadow is None:
            return {}
        model = shadow.model
        rows = forecast_in_shadow(store.engine, registry, model, sessions, tickers, issue)
    except StockAssetsError as error:
        context.log.warning(f"the candidate in shadow did not forecast: {error}")
        return {}
    return {model: rows}


def reason_of(tags: Mapping[str, str]) -> Reason:
    """Return how a run with these tags was started."""
    if "dagster/schedule_name" in tags or "dagster/sensor_name" in tags:
        return Reason.SCHEDULED
    if "dagster/backfill" in tags or "dagster/asset_partition_range_start" in tags:
        return Reason.BACKFILL
    return Reason.MANUAL


def _forecast_from(sessions: Sequence[date], reaching: dg.TimeWindowPartitionMapping) -> list[str]:
    """Return the partitions of `predictions` whose forecasts reach some sessions."""
    farthest = -reaching.start_offset
    days = {
        calendar.previous_session(session, ahead)
        for session in sessions
        for ahead in range(1, farthest + 1)
    }
    return sorted(map(session_key, days))
