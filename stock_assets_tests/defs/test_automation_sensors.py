"""Sensors: an alarm launches one retraining, healthy scores none; a failed day is still scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from rich.console import Console
from sqlalchemy import insert

from stock_assets.cli.runs import RunFailedError, run_session, run_sessions
from stock_assets.config import Params, Tracking
from stock_assets.core.errors import StockAssetsError
from stock_assets.datasets.ids import dataset_as_of
from stock_assets.definitions import build_definitions
from stock_assets.defs.automation import retrain_on_breach, score_when_forecasting_failed
from stock_assets.defs.forecasting.checks import SOUND
from stock_assets.defs.resources import Store
from stock_assets.evaluation.change_detection import Source
from stock_assets.evaluation.metrics import score_rows
from stock_assets.evaluation.production_rule import (
    PERSISTENCE_VERSION,
    Cause,
    ModelVersion,
)
from stock_assets.evaluation.retraining_rule import RetrainingOutcome
from stock_assets.market import calendar
from stock_assets.pipeline.monitoring import bounds_of
from stock_assets.pipeline.production import change_production
from stock_assets.registry import Registry
from stock_assets.storage.check_results import CheckRecord, save_check_results
from stock_assets.storage.database import STORE_URL_VARIABLE
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import (
    decision_about,
    promotions,
    retraining_decisions_newest_first,
    save_promotion,
)
from stock_assets.storage.forecasts import read_performance, save_performance
from stock_assets.storage.production import NewChange, production_changes
from stock_assets.storage.tables import feature_drift
from stock_assets_tests.conftest import Loop
from stock_assets_tests.defs.running import params
from stock_assets_tests.storage.examples import MODEL, panel

REPOSITORY = build_definitions(params()).get_repository_def()
NOTHING_SCORED = "No decision: no forecast of the version in force is scored yet"
NO_LIMITS = {"mape_max": None, "relative_mae_max": None, "direction_accuracy_min": None}


@pytest.fixture(autouse=True)
def first_version_in_force(loop: Loop, second_retraining: str) -> Iterator[None]:
    """Production is the version that forecast the scored sessions, not a later one."""
    registry = Registry(loop.platform.params.tracking)
    before = registry.production()
    assert before is not None
    registry.set_production_alias(1)
    yield
    registry.set_production_alias(before.version)


def with_thresholds(**values: float) -> Params:
    """Parameters without hard limits, except those given."""
    thresholds = params().monitoring.thresholds.model_copy(update=NO_LIMITS | values)
    return params(monitoring={"thresholds": thresholds})


def tick(
    loop: Loop, store: Store, chosen: Params, registry: Registry | None = None, **context: Any
) -> Any:
    """Evaluate the sensor as the daemon does."""
    given = {
        "params": chosen,
        "store": store,
        "registry": registry or Registry(loop.platform.params.tracking),
    }
    instance = context.pop("instance", loop.platform.instance)
    built = dg.build_sensor_context(
        instance,
        repository_def=REPOSITORY,
        resources=given,
        sensor_name="retrain_on_breach",
        instance_ref=instance.get_ref() if instance.is_persistent else None,
        **context,
    )
    return retrain_on_breach.evaluate_tick(built)


def of_loop(loop: Loop) -> ModelVersion:
    """The version that forecast in the loop, which the tests of this module put in force."""
    return Registry(loop.platform.params.tracking).version(1)


def put_back(loop: Loop, store: Store) -> None:
    """Put the version that stepped down in force again."""
    change = NewChange(of_loop(loop), Cause.PERSON, "it is as good as any")
    registry = Registry(loop.platform.params.tracking)
    change_production(store.engine, registry, lambda _: change)


def scores(loop: Loop, worse: float = 1.0, sessions: int | None = None) -> pd.DataFrame:
    """The loop's scored forecasts as the production model's, with errors multiplied by `worse`."""
    production = of_loop(loop)
    rows = read_performance(loop.platform.engine, loop.replayed[0], loop.replayed[-1])
    kept = rows[rows["session"].isin(sorted(rows["session"].unique())[:sessions])]
    bent = kept["actual"] + worse * (kept["predicted"] - kept["actual"])
    own = {"model_version": production.version, "dataset_run_id": production.dataset_run_id}
    return score_rows(kept.assign(predicted=bent, **own))


def write(store: Store, rows: pd.DataFrame) -> list[date]:
    """Write scores into the log of this test and return their sessions."""
    days = sorted(set(rows["session"].dt.date))
    save_performance(store.engine, rows, days, "run")
    return days


def test_healthy_scores_launch_nothing(loop: Loop, own_store: Store) -> None:
    days = write(own_store, scores(loop))
    data = tick(loop, own_store, with_thresholds())
    assert data.run_requests == []
    assert data.dynamic_partitions_requests == []
    (decision,) = retraining_decisions_newest_first(own_store.engine)
    assert (decision.session, decision.retrain) == (days[-1], False)
    assert decision.dataset_run_id is None
    assert decision.decision.outcome is RetrainingOutcome.HEALTHY
    assert decision.decision.forecasts == 5 * len(days)
    assert decision.decision.alarm is not None
    assert [*decision.decision.alarm.path] == days
    assert decision.decision.alarm.source is Source.DEFAULT  # this database has no promotion
    assert data.skip_message == decision.reason


@pytest.mark.parametrize(
    ("worse", "thresholds", "outcome", "breaches"),
    [
        (30.0, {}, RetrainingOutcome.ALARM, []),
        (30.0, {"mape_max": 0.10}, RetrainingOutcome.HARD_LIMIT, ["mape"]),
        (30.0, {"relative_mae_max": 1.5}, RetrainingOutcome.HARD_LIMIT, ["relative_mae"]),
        (1.0, {"mape_max": 1e-6}, RetrainingOutcome.HARD_LIMIT, ["mape"]),
        (1.0, {"relative_mae_max": 1e-6}, RetrainingOutcome.HARD_LIMIT, ["relative_mae"]),
    ],
)
def test_an_alarm_launches_exactly_one_retraining(
    loop: Loop,
    own_store: Store,
    worse: float,
    thresholds: dict[str, float],
    outcome: RetrainingOutcome,
    breaches: list[str],
) -> None:
    days = write(own_store, scores(loop, worse))
    data = tick(loop, own_store, with_thresholds(**thresholds))
    (request,) = data.run_requests
    assert request.job_name in (None, "retraining")
    assert request.run_key == request.partition_key
    assert dataset_as_of(request.partition_key) == days[-1]
    assert request.tags["stock_assets/breach_session"] == days[-1].isoformat()
    assert request.run_config == {"execution": {"config": {"in_process": {}}}}
    (added,) = data.dynamic_partitions_requests
    assert isinstance(added, dg.AddDynamicPartitionsRequest)
    assert added.partitions_def_name == "datasets"
    assert added.partition_keys == [request.partition_key]
    (decision,) = retraining_decisions_newest_first(own_store.engine)
    assert decision.retrain
    assert decision.dataset_run_id == request.run_key
    assert decision.decision.outcome is outcome
    assert [failed.metric for failed in decision.decision.breaches] == breaches


def test_a_repeated_tick_requests_the_same_run(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop, 30.0))
    first, again = (tick(loop, own_store, with_thresholds(relative_mae_max=1.5)) for _ in range(2))
    assert [r.run_key for r in again.run_requests] == [r.run_key for r in first.run_requests]
    assert again.dynamic_partitions_requests == first.dynamic_partitions_requests
    assert len(retraining_decisions_newest_first(own_store.engine)) == 1


def test_better_scores_do_not_revoke_a_decision(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop, 30.0))
    first = tick(loop, own_store, with_thresholds(relative_mae_max=1.5))
    write(own_store, scores(loop))
    again = tick(loop, own_store, with_thresholds())
    assert [r.run_key for r in again.run_requests] == [r.run_key for r in first.run_requests]


def test_a_limit_that_is_broken_again_waits_for_the_cooldown(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop, 30.0, sessions=12))
    strict = with_thresholds(relative_mae_max=1.5)
    first = tick(loop, own_store, strict)
    put_back(loop, own_store)
    days = write(own_store, scores(loop, 30.0))
    again = tick(loop, own_store, strict)
    newest = retraining_decisions_newest_first(own_store.engine)[0]
    assert not newest.retrain
    assert newest.decision.outcome is RetrainingOutcome.COOLING_DOWN
    assert newest.decision.evidence_from == days[12]
    assert newest.decision.elapsed_sessions == len(days) - 12
    # The first retraining has no promotion decision yet, so it is requested again.
    assert [r.run_key for r in again.run_requests] == [r.run_key for r in first.run_requests]


def test_scores_that_come_late_can_still_be_a_breach(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop))
    strict = with_thresholds(relative_mae_max=1.5)
    assert tick(loop, own_store, strict).run_requests == []
    write(own_store, scores(loop, 30.0))
    assert len(tick(loop, own_store, strict).run_requests) == 1
    assert retraining_decisions_newest_first(own_store.engine)[0].retrain


def test_after_the_cooldown_a_limit_counts_again(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop, 30.0, sessions=12))
    strict = with_thresholds(relative_mae_max=1.5)
    eager = strict.model_copy(
        update={"monitoring": strict.monitoring.model_copy(update={"cooldown_sessions": 4})}
    )
    first = tick(loop, own_store, eager)
    put_back(loop, own_store)
    write(own_store, scores(loop, 30.0))
    second = tick(loop, own_store, eager)
    assert len(first.run_requests) == len(second.run_requests) == 1
    assert first.run_requests[0].run_key != second.run_requests[0].run_key


def test_a_version_that_breaks_a_hard_limit_steps_down_at_once(
    loop: Loop, own_store: Store
) -> None:
    days = write(own_store, scores(loop, 30.0))
    for _ in range(2):
        tick(loop, own_store, with_thresholds(relative_mae_max=1.5))
    name = loop.platform.params.tracking.model_name
    *_, change = changes = production_changes(own_store.engine, name)
    assert [one.cause for one in changes] == [Cause.FOUND_OUTSIDE, Cause.STEP_DOWN]
    assert change.model is not None
    assert change.model.is_persistence
    assert change.model.as_of == days[-1]
    assert Registry(loop.platform.params.tracking).production() is None
    timeline = loop.platform.instance.fetch_materializations(
        dg.AssetKey("production_model"), limit=1
    ).records[0]
    assert timeline.asset_materialization.metadata["cause"].value == "step_down"


def test_a_few_sessions_are_too_little_for_a_hard_limit(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop, 30.0, sessions=4))
    data = tick(loop, own_store, with_thresholds(relative_mae_max=1.5))
    assert data.run_requests == []
    (decision,) = retraining_decisions_newest_first(own_store.engine)
    assert decision.decision.outcome is RetrainingOutcome.HEALTHY
    assert data.skip_message == decision.reason


def test_a_leaked_score_stops_the_sensor(loop: Loop, own_store: Store) -> None:
    """A forecast that is scored on its own as-of session is no evidence, for or against."""
    rows = scores(loop)
    newest = rows["session"] == rows["session"].max()
    write(own_store, rows.assign(as_of_session=rows["as_of_session"].mask(newest, rows["session"])))
    with pytest.raises(StockAssetsError, match="so that it is no evidence"):
        tick(loop, own_store, with_thresholds())
    assert retraining_decisions_newest_first(own_store.engine) == []


def test_invalid_forecasts_launch_a_retraining(loop: Loop, own_store: Store) -> None:
    days = write(own_store, scores(loop))
    key = days[-1].isoformat()
    failed = CheckRecord("run", "predictions", SOUND, key, key, False, "error", "5 are invalid")
    save_check_results(own_store.engine, [failed])
    data = tick(loop, own_store, with_thresholds())
    (decision,) = retraining_decisions_newest_first(own_store.engine)
    assert decision.decision.outcome is RetrainingOutcome.HARD_LIMIT
    assert decision.decision.invalid_forecasts
    assert [request.run_key for request in data.run_requests] == [decision.dataset_run_id]


def test_drift_launches_nothing(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop))
    drift = {"as_of_session": loop.replayed[-1], "model_version": 1, "feature": "RSI", "psi": 9.0}
    with own_store.engine.begin() as connection:
        connection.execute(insert(feature_drift).values(**drift, rows=100, baseline_p95=0.01))
    assert tick(loop, own_store, with_thresholds()).run_requests == []


def test_the_detectors_have_the_parameters_of_the_promotion(loop: Loop, own_store: Store) -> None:
    production = Registry(loop.platform.params.tracking).production()
    assert production is not None
    decided = decision_about(
        loop.store.engine, MODEL, production.dataset_run_id, production.version
    )
    assert decided is not None
    bounds = decided.decision.detection
    assert bounds is not None
    save_panel(own_store.engine, panel(decided.dataset_run_id))
    save_promotion(own_store.engine, decided)
    write(own_store, scores(loop))
    tick(loop, own_store, with_thresholds())
    (decision,) = retraining_decisions_newest_first(own_store.engine)
    alarm = decision.decision.alarm
    assert alarm is not None
    assert alarm.source is Source.HELD_OUT
    assert {name: (state.m0, state.b) for name, state in alarm.detectors.items()} == {
        name: (bound.m0, bound.b) for name, bound in bounds.detectors.items()
    }


def test_a_promotion_of_an_earlier_version_gives_derived_parameters(
    loop: Loop, own_store: Store
) -> None:
    (decided,) = promotions(loop.store.engine, MODEL)[-1:]
    save_panel(own_store.engine, panel(decided.dataset_run_id))
    earlier = replace(decided, decision=replace(decided.decision, detection=None))
    save_promotion(own_store.engine, earlier)
    write(own_store, scores(loop))
    production = Registry(loop.platform.params.tracking).production()
    assert production is not None
    bounds = bounds_of(own_store.engine, MODEL, production, 0.9)
    exact = decided.decision.detection
    assert exact is not None
    assert bounds.source is Source.RECORDED_SCORES
    assert bounds.loss.m0 == pytest.approx(exact.loss.m0, abs=0.01)


def test_scores_of_another_version_do_not_count(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop, 30.0).assign(model_version=99))
    data = tick(loop, own_store, with_thresholds(relative_mae_max=1.5))
    assert data.skip_message == NOTHING_SCORED
    assert retraining_decisions_newest_first(own_store.engine) == []


@pytest.mark.parametrize("due", [False, True])
def test_while_persistence_is_in_force_a_retraining_is_requested_every_test_segment(
    loop: Loop, own_store: Store, due: bool
) -> None:
    none = {"model_version": PERSISTENCE_VERSION, "dataset_run_id": None, "mlflow_run_id": None}
    days = write(own_store, scores(loop, 30.0).assign(**none))
    chosen = params(dataset={"test_sessions": len(days) + (not due)})
    data = tick(loop, own_store, chosen, Registry(Tracking(model_name="NoModel")))
    (decision,) = retraining_decisions_newest_first(own_store.engine)
    assert decision.decision.outcome is (
        RetrainingOutcome.NO_MODEL if due else RetrainingOutcome.HEALTHY
    )
    assert decision.decision.age_sessions == len(days)
    assert [request.run_key for request in data.run_requests] == (
        [decision.dataset_run_id] if due else []
    )


def test_scores_of_a_model_do_not_count_for_persistence(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop, 30.0))
    no_model = Registry(Tracking(model_name="NoModel"))
    assert tick(loop, own_store, params(), no_model).skip_message == NOTHING_SCORED


def test_a_tick_records_an_alias_that_was_moved_in_mlflow(
    loop: Loop, own_store: Store, second_retraining: str
) -> None:
    registry = Registry(loop.platform.params.tracking)
    before = registry.production()
    assert before is not None
    other = next(model for model in registry.versions() if model != before)
    write(own_store, scores(loop))
    tick(loop, own_store, with_thresholds())
    registry.set_production_alias(other.version)
    try:
        data = tick(loop, own_store, with_thresholds())
    finally:
        registry.set_production_alias(before.version)
    changes = production_changes(own_store.engine, registry.model_name)
    assert [change.model for change in changes] == [before, other]
    assert {change.cause for change in changes} == {Cause.FOUND_OUTSIDE}
    assert data.skip_message == NOTHING_SCORED  # of the other version


def test_the_sensor_runs_when_the_log_is_written(loop: Loop, own_store: Store) -> None:
    write(own_store, scores(loop, 30.0))
    data = tick(
        loop,
        own_store,
        with_thresholds(relative_mae_max=1.5),
        instance=dg.DagsterInstance.ephemeral(),
    )
    assert data.run_requests == []
    assert "No new materialization events" in data.skip_message
    woken = tick(loop, own_store, with_thresholds(relative_mae_max=1.5))
    again = tick(loop, own_store, with_thresholds(relative_mae_max=1.5), cursor=woken.cursor)
    assert again.run_requests == []
    assert "No new materialization events" in again.skip_message


def test_an_unreadable_log_is_an_error(
    loop: Loop, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STORE_URL_VARIABLE)
    with pytest.raises(StockAssetsError, match="STOCK_ASSETS_STORE_URL is not set"):
        tick(loop, Store(), with_thresholds())


def failed_run(loop: Loop, *days: date, assets: list[str] | None = None) -> dg.DagsterRun:
    """A daily run of the suite's installation that fails."""
    console, names = Console(quiet=True), assets or ["raw_prices", "predictions", "performance_log"]
    with pytest.raises(RunFailedError) as caught:
        if len(days) == 1:
            run_session(loop.platform, console, names, days[0])
        else:
            run_sessions(loop.platform, console, names, days)
    run = loop.platform.instance.get_run_by_id(caught.value.run_id)
    assert run.status == dg.DagsterRunStatus.FAILURE
    return run


def on_failure(loop: Loop, run: dg.DagsterRun) -> dg.RunRequest | dg.SkipReason:
    """The result of the failure sensor for a run."""
    instance = loop.platform.instance
    (entry,) = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE
    ).records
    context = dg.build_run_status_sensor_context(
        "score_when_forecasting_failed", entry.event_log_entry.dagster_event, instance, run
    )
    answer: dg.RunRequest | dg.SkipReason = score_when_forecasting_failed(context.for_run_failure())
    return answer


def test_a_failed_forecast_launches_scoring_alone(loop: Loop) -> None:
    day = date(2000, 3, 3)  # too early in history for any forecast
    run = failed_run(loop, day)
    request = on_failure(loop, run)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == day.isoformat()
    assert request.run_key == f"score-{run.run_id}"
    assert request.asset_selection == [dg.AssetKey("performance_log")]
    assert on_failure(loop, run).run_key == request.run_key
    names = [key.to_user_string() for key in request.asset_selection]
    assert run_session(loop.platform, Console(quiet=True), names, day).success


def test_without_prices_there_is_nothing_to_score(loop: Loop) -> None:
    answer = on_failure(loop, failed_run(loop, date(2013, 3, 4)))
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message == "no prices arrived, so nothing can be scored"


def test_a_failed_range_launches_nothing(loop: Loop) -> None:
    days = calendar.sessions(date(2000, 3, 2), date(2000, 3, 3))
    answer = on_failure(loop, failed_run(loop, *days, assets=["predictions"]))
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message.startswith("the run covered several sessions")
