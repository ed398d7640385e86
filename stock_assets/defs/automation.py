"""Automation: two jobs, the daily schedule and two sensors."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time

import dagster as dg

from stock_assets.config import Params
from stock_assets.core.locations import find_locations
from stock_assets.datasets.ids import new_dataset_id
from stock_assets.defs.forecasting.checks import SOUND
from stock_assets.defs.partitions import datasets, session_key
from stock_assets.defs.promotion.timeline import report_changes
from stock_assets.defs.resources import Store
from stock_assets.evaluation.retraining_rule import RetrainingDecision, RetrainingOutcome
from stock_assets.evaluation.shadow_rule import ShadowOutcome
from stock_assets.market import calendar
from stock_assets.market.sources.catalogue import open_source
from stock_assets.pipeline.monitoring import decide_on_stored_scores
from stock_assets.pipeline.production import LostRegistryError
from stock_assets.pipeline.recovery import checked_history
from stock_assets.registry import Registry
from stock_assets.reporting.decision_text import retraining_text
from stock_assets.storage.decisions import (
    RetrainingRecord,
    pending_retraining,
    record_retraining_decision,
)
from stock_assets.storage.production import ProductionChange
from stock_assets.storage.shadows import current_shadow, shadow_scores

DAILY_ASSETS = ("raw_prices", "predictions", "performance_log")
RETRAINING_ASSETS = (
    "processed_features",
    "scalers",
    "scaled_features",
    "tuned_params",
    "candidate_model",
    "promotion",
)
RETRAINING_TAG = "stock_assets/retraining"

daily_job = dg.define_asset_job(
    "daily",
    selection=[*DAILY_ASSETS],
    description="Fetch the session's prices, forecast the next one, score what came due.",
    executor_def=dg.in_process_executor,
    tags={"stock_assets/job": "daily"},
)

retraining_job = dg.define_asset_job(
    "retraining",
    selection=[*RETRAINING_ASSETS],
    description=(
        "A new dataset, its scalers, tuned hyperparameters, candidate and promotion decision. In "
        "one process unless the launch configuration chooses `multiprocess`."
    ),
    executor_def=dg.multi_or_in_process_executor,
    config={"execution": {"config": {"in_process": {}}}},
    tags={RETRAINING_TAG: "yes"},
)


def daily_cron(daily_at: time) -> str:
    """Return the cron line of the daily schedule: weekdays at a time in New York."""
    return f"{daily_at.minute} {daily_at.hour} * * 1-5"


def daily_schedule(params: Params) -> dg.ScheduleDefinition:
    """Build the schedule that runs the daily job after the close of every session.

    It is written by hand because Dagster's partitioned schedule ignores holidays. A weekday without
    a session is skipped, and so is a session after the last one of the source.
    """

    @dg.schedule(
        name="daily_after_close",
        job=daily_job,
        cron_schedule=daily_cron(params.schedule.daily_at),
        execution_timezone=calendar.TIMEZONE,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="The daily job on trading days, after the close in New York.",
    )
    def daily_after_close(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        day = context.scheduled_execution_time.date()
        if not calendar.is_session(day):
            return dg.SkipReason(f"{day} is not a session of the exchange")
        last = open_source(params.prices, find_locations().project).last_session
        if last is not None and day > last:
            return dg.SkipReason(
                f"source {params.prices.source} has no prices after {last}: "
                "choose another prices.source in params.yaml"
            )
        key = session_key(day)
        return dg.RunRequest(run_key=key, partition_key=key)

    return daily_after_close


@dg.asset_sensor(
    name="retrain_on_breach",
    asset_key=dg.AssetKey("performance_log"),
    job=retraining_job,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Runs after the performance log. Decides from the scores of the version in force whether "
        "it has become worse, and then launches retraining as of the newest scored session, once "
        "per alarm, and `promotion` when a decision about the candidate in shadow is due."
    ),
)
def retrain_on_breach(
    context: dg.SensorEvaluationContext,
    asset_event: dg.EventLogEntry,  # noqa: ARG001
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
    registry: dg.ResourceParam[Registry],
) -> Iterator[dg.SensorResult | dg.SkipReason]:
    """Decide once per scored session, and launch the retraining that was decided.

    The decision is stored before the run is requested, under the dataset's id as run key. A tick
    requests the newest decision to retrain that has led to no promotion decision yet. A repeated
    tick, or one after the daemon was killed, requests the same run, which Dagster launches once.
    A version that broke a hard limit steps down at once. If a decision about the candidate in
    shadow is due, `promotion` is requested for it.
    """
    try:
        history = checked_history(store.engine, registry)
    except LostRegistryError as lost:
        yield dg.SkipReason(str(lost))
        return
    report_changes(context.instance, store.engine, history)
    decision = decide_on_stored_scores(store.engine, registry.model_name, history, params, SOUND)
    reason = retraining_text(decision)
    if decision.session is not None:
        recorded = _recorded(context, store, decision, decision.session)
        reason = recorded.reason
        if recorded.retrain and recorded.decision.outcome is RetrainingOutcome.HARD_LIMIT:
            history = _stepped_down(store, registry, recorded, params)
            report_changes(context.instance, store.engine, history)
    pending = pending_retraining(store.engine)
    due = _decision_on_shadow(store, registry, history, params)
    requests, added = [] if due is None else [due], []
    if pending is not None and pending.dataset_run_id is not None:
        requests.append(
            dg.RunRequest(
                run_key=pending.dataset_run_id,
                partition_key=pending.dataset_run_id,
                tags={"stock_assets/breach_session": pending.session.isoformat()},
            )
        )
        added.append(datasets.build_add_request([pending.dataset_run_id]))
    if not requests:
        yield dg.SkipReason(reason)
        return
    yield dg.SensorResult(run_requests=requests, dynamic_partitions_requests=added)


def _stepped_down(
    store: Store, registry: Registry, recorded: RetrainingRecord, params: Params
) -> list[ProductionChange]:
    """Let the version that broke a hard limit step down; return the history."""
    from stock_assets.pipeline.step_down import step_down

    version = recorded.decision.model_version
    return step_down(*(store.engine, registry, version, recorded.session, recorded.reason, params))


def _decision_on_shadow(
    store: Store, registry: Registry, history: Sequence[ProductionChange], params: Params
) -> dg.RunRequest | None:
    """Request `promotion` for the candidate in shadow, if a decision about it is due.

    A failed run is requested again after the next scored session.
    """
    from stock_assets.pipeline.shadow import due_outcome

    shadow = current_shadow(store.engine, registry.model_name, history)
    if shadow is None:
        return None
    scores = shadow_scores(store.engine, shadow.model)
    outcome, _ = due_outcome(scores, shadow, params.promotion.shadow_sessions)
    if outcome is ShadowOutcome.OPEN:
        return None
    dataset, session = shadow.decided.dataset_run_id, scores.sessions[-1]
    return dg.RunRequest(
        run_key=f"{dataset} shadow {session}",
        partition_key=dataset,
        asset_selection=[dg.AssetKey("promotion")],
        tags={"stock_assets/shadow_session": session.isoformat()},
    )


def _recorded(
    context: dg.SensorEvaluationContext, store: Store, decision: RetrainingDecision, session: date
) -> RetrainingRecord:
    """Store a decision about a session; return the one in force."""
    return record_retraining_decision(
        store.engine,
        RetrainingRecord(
            session=session,
            retrain=decision.retrain,
            decision=decision,
            dataset_run_id=_new_dataset(context, session) if decision.retrain else None,
        ),
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
        "Scores the session of a daily run that failed after its prices arrived: a failed forecast "
        "must not stop the monitoring."
    ),
)
def score_when_forecasting_failed(
    context: dg.RunFailureSensorContext,
) -> dg.RunRequest | dg.SkipReason:
    """Score the session of a failed daily run, if its prices arrived and scoring was skipped."""
    run, key = context.dagster_run, context.dagster_run.tags.get("dagster/partition")
    if key is None:
        return dg.SkipReason(
            "the run covered several sessions: run it again once the cause of the failure is fixed"
        )
    made = {
        materialized.asset_key.to_user_string()
        for entry in context.instance.all_logs(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        if (materialized := entry.asset_materialization) is not None
        and materialized.partition == key
    }
    if "raw_prices" not in made:
        return dg.SkipReason("no prices arrived, so nothing can be scored")
    if "performance_log" in made:
        return dg.SkipReason("already scored")
    return dg.RunRequest(
        run_key=f"score-{run.run_id}",
        partition_key=key,
        asset_selection=[dg.AssetKey("performance_log")],
    )
