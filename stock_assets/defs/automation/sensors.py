"""What reacts: scores that break the thresholds, and a forecast that failed before scoring."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg

from stock_assets.config import Params
from stock_assets.defs.automation.jobs import daily_job, retraining_job
from stock_assets.defs.forecasting.performance import performance_log
from stock_assets.defs.partitions import datasets, new_dataset_id
from stock_assets.defs.prices.assets import raw_prices
from stock_assets.defs.resources import Store
from stock_assets.registry import Registry


@dg.asset_sensor(
    name="retrain_on_breach",
    asset_key=performance_log.key,
    job=retraining_job,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Woken by the performance log; decides from the log's newest sessions whether the scores "
        "break the thresholds, and then launches retraining as of the newest scored session, once "
        "per breach."
    ),
)
def retrain_on_breach(
    context: dg.SensorEvaluationContext,
    asset_event: dg.EventLogEntry,  # noqa: ARG001
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
    registry: dg.ResourceParam[Registry],
) -> Iterator[dg.SensorResult | dg.SkipReason]:
    """Decide once per scored session and launch what was decided.

    The decision is stored before the run is requested, under the dataset's id as run key. A tick
    requests the newest decision to retrain that has led to no promotion decision yet: one that is
    repeated, or follows a killed daemon, requests the same run, which Dagster launches once.
    """
    from stock_assets.evaluation.retraining_rule import decide_retraining
    from stock_assets.storage.forecasts import (
        RetrainingRecord,
        last_retraining_session,
        pending_retraining,
        recent_performance,
        record_retraining_decision,
    )

    production = registry.production()
    if production is None:
        yield dg.SkipReason("there is no production model to retrain")
        return
    rows = recent_performance(store.engine, params.monitoring.window_sessions, production.version)
    last = last_retraining_session(store.engine)
    decision = decide_retraining(rows, last, params.monitoring)
    if decision.session is None:
        yield dg.SkipReason(decision.reason)
        return
    standing = record_retraining_decision(
        store.engine,
        RetrainingRecord(
            session=decision.session,
            retrain=decision.retrain,
            breaches=list(decision.breaches),
            reason=decision.reason,
            metrics=decision.metrics.to_dict() if decision.metrics else None,
            dataset_run_id=_new_dataset(context, decision.session) if decision.retrain else None,
        ),
    )
    pending = pending_retraining(store.engine)
    if pending is None or pending.dataset_run_id is None:
        yield dg.SkipReason(standing.reason)
        return
    yield dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=pending.dataset_run_id,
                partition_key=pending.dataset_run_id,
                tags={"stock_assets/breach_session": pending.session.isoformat()},
            )
        ],
        dynamic_partitions_requests=[datasets.build_add_request([pending.dataset_run_id])],
    )


def _new_dataset(context: dg.SensorEvaluationContext, as_of: date) -> str:
    taken = context.instance.get_dynamic_partitions(str(datasets.name))
    return new_dataset_id(as_of, datetime.now(UTC), taken)


@dg.run_failure_sensor(
    name="score_when_forecasting_failed",
    monitored_jobs=[daily_job],
    request_job=daily_job,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "A daily run that failed after its prices arrived still has forecasts of the session "
        "before to score: a failed forecast must not stop the monitoring."
    ),
)
def score_when_forecasting_failed(
    context: dg.RunFailureSensorContext,
) -> dg.RunRequest | dg.SkipReason:
    """Score the session of a failed daily run, if its prices arrived and scoring was skipped."""
    run, key = context.dagster_run, context.dagster_run.tags.get("dagster/partition")
    if key is None:
        return dg.SkipReason("the run was a range: run it again when its cause is mended")
    made = {
        materialized.asset_key
        for entry in context.instance.all_logs(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        if (materialized := entry.asset_materialization) is not None
    }
    if raw_prices.key not in made or performance_log.key in made:
        return dg.SkipReason("there is nothing left to score")
    return dg.RunRequest(
        run_key=f"score-{run.run_id}",
        partition_key=key,
        asset_selection=[performance_log.key],
    )
