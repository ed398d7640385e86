"""Shadow: an alarm's candidate forecasts beside production, and later sessions decide."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from sqlalchemy import text

from stock_assets.config import Params, Tracking
from stock_assets.definitions import build_definitions
from stock_assets.defs.automation import retrain_on_breach
from stock_assets.defs.resources import Store
from stock_assets.evaluation.promotion_rule import PromotionOutcome
from stock_assets.evaluation.shadow_rule import pair_scores
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.registry import Registry
from stock_assets.service.app import create_app
from stock_assets.service.app_state import AppState
from stock_assets.service.settings import ServiceSettings
from stock_assets.storage.decisions import (
    PromotionRecord,
    promotions,
    record_retraining_decision,
)
from stock_assets.storage.forecasts import (
    predictions_as_of,
    read_performance,
    recent_performance,
    save_performance,
    save_predictions,
    shadow_performance,
)
from stock_assets.storage.production import production_changes
from stock_assets.storage.serving.decisions import ModelFilter, find_promotion, list_models
from stock_assets.storage.shadows import current_shadow, shadow_scores
from stock_assets_tests.conftest import SECOND_DATASET, Loop
from stock_assets_tests.defs.promotion.decided import HELD_OUT, met
from stock_assets_tests.defs.running import failure, materialize, metadata, params
from stock_assets_tests.models.bundles import bundle, sample_bars
from stock_assets_tests.service.conftest import UNLIMITED, send
from stock_assets_tests.storage.examples import RETRAINING, store_bars

AS_OF = date(2013, 1, 31)
DAYS = calendar.sessions(AS_OF, date(2013, 2, 28))
"""As-of sessions of the shadow."""

SCORED = [calendar.next_session(day) for day in DAYS]
PERIOD = 5


@pytest.fixture(scope="module")
def candidate() -> Bundle:
    return bundle(as_of=AS_OF, dataset_id=SECOND_DATASET, seed=2)


class Case:
    """A store with a candidate in shadow, and the steps that a test takes with it."""

    def __init__(self, store: Store, folder: Path, candidate: Bundle) -> None:
        self.store = store
        self.registry = Registry(Tracking(experiment="promotion", model_name=folder.name))
        self.rule = {"shadow_sessions": PERIOD, "refit": False, "floor": "none"}
        store_bars(store.engine, sample_bars())
        session = HELD_OUT[-1]
        alarm = replace(
            RETRAINING,
            session=session,
            dataset_run_id=SECOND_DATASET,
            decision=replace(RETRAINING.decision, session=session, evidence_from=HELD_OUT[-10]),
        )
        record_retraining_decision(store.engine, alarm)
        self.first = met(store, folder, candidate, date(2012, 8, 31), promotion=self.rule)

    @property
    def params(self) -> Params:
        tracking = self.registry._tracking.model_dump()
        return params(tracking=tracking, promotion=self.rule)

    @property
    def decisions(self) -> list[PromotionRecord]:
        return promotions(self.store.engine, self.registry.model_name)[::-1]

    def run(self, asset: str, first: date | str, last: date | None = None) -> dict[str, object]:
        key, end = str(first), None if last is None else str(last)
        result = materialize([asset], key, self.store, self.params, self.registry, last=end)
        assert result.success, failure(result)
        return {} if last is not None else metadata(result, asset)

    def forecast_and_score(self, days: list[date] = DAYS) -> None:
        self.run("predictions", days[0], days[-1])
        scored = [calendar.next_session(day) for day in days]
        self.run("performance_log", scored[0], scored[-1])

    def tick(self, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
        """The runs that the sensor requests."""
        context = dg.build_sensor_context(
            instance,
            repository_def=build_definitions(self.params).get_repository_def(),
            resources={"params": self.params, "store": self.store, "registry": self.registry},
            sensor_name="retrain_on_breach",
            instance_ref=instance.get_ref(),
        )
        return list(retrain_on_breach.evaluate_tick(context).run_requests)

    def page(self, path: str) -> str:
        state = AppState(
            self.store.engine, self.params, ServiceSettings(requests_per_minute=UNLIMITED)
        )
        answer = send(create_app(state), path)
        assert answer.status_code == 200
        return answer.text

    def set_errors(self, factor: float) -> None:
        """Set the candidate's errors to a multiple of production's, in its scores."""
        rows = read_performance(self.store.engine, SCORED[0], SCORED[-1])
        own = rows["role"] == "shadow"
        other = rows[~own].set_index(["session", "ticker"])["absolute_error"]
        keys = pd.MultiIndex.from_frame(rows.loc[own, ["session", "ticker"]])
        rows.loc[own, "absolute_error"] = factor * other.loc[keys].to_numpy()
        save_performance(self.store.engine, rows, SCORED, "run")


@pytest.fixture
def case(loop: Loop, own_store: Store, tmp_path: Path, candidate: Bundle) -> Case:
    return Case(own_store, tmp_path, candidate)


def test_an_alarm_leads_to_a_shadow(case: Case) -> None:
    """The sessions that raised it are left out of the test."""
    decision = case.first.decision
    assert decision.outcome is PromotionOutcome.SHADOW
    assert not case.first.promoted
    assert decision.before_alarm is not None
    assert decision.before_alarm.begins == HELD_OUT[-10]
    assert decision.before_alarm.test.sessions == len(HELD_OUT) - 11
    shadow = current_shadow(case.store.engine, case.registry.model_name, [])
    assert shadow is not None
    assert (shadow.model.version, shadow.decided) == (2, case.first)


def test_both_models_forecast_and_production_alone_is_shown_and_monitored(case: Case) -> None:
    case.forecast_and_score()
    engine, (old, new) = case.store.engine, case.registry.versions()[::-1]
    rows = read_performance(engine, SCORED[0], SCORED[-1])
    counts = rows.groupby(["model_version", "role"]).size().to_dict()
    assert counts == {(old.version, "production"): 100, (new.version, "shadow"): 100}
    assert set(predictions_as_of(engine, DAYS)["model_version"]) == {old.version}
    assert recent_performance(engine, 20, new.key).empty
    with engine.connect() as connection:
        latest = connection.execute(text("SELECT DISTINCT model_version FROM latest_predictions"))
        assert latest.scalars().all() == [old.version]
        drifted = connection.execute(text("SELECT DISTINCT model_version FROM feature_drift"))
        assert drifted.scalars().all() == [old.version]
    home = Path(case.store.arrays_url).parent
    files = [*home.rglob("latest_predictions.json"), *home.rglob("historical/*.json")]
    made = predictions_as_of(engine, DAYS)
    run = made["mlflow_run_id"].iloc[0]
    assert files
    assert all(f'"model_mlflow_run_id": "{run}"' in file.read_text() for file in files)


def test_a_repeated_run_issues_nothing_again(case: Case) -> None:
    case.forecast_and_score(DAYS[:3])
    with case.store.engine.connect() as connection:
        query = text("SELECT count(*) FROM predictions_history")
        before = connection.scalar(query)
        case.run("predictions", DAYS[0], DAYS[2])
        assert connection.scalar(query) == before


def test_the_later_sessions_decide_and_the_winner_takes_over(case: Case) -> None:
    case.forecast_and_score(DAYS[: PERIOD - 1])
    case.set_errors(0.9)
    case.run("promotion", SECOND_DATASET)
    assert len(case.decisions) == 1  # not due yet
    for page in ("/models", "/performance"):
        assert "4 sessions scored: lower loss than production" in case.page(page)
    case.forecast_and_score()
    case.set_errors(0.9)
    case.run("promotion", SECOND_DATASET)
    first, second = case.decisions
    assert first == case.first
    assert second.decision.outcome is PromotionOutcome.SHADOW_LOWER_LOSS
    assert second.decision.shadow is not None
    assert second.decision.shadow.sessions == tuple(SCORED[:PERIOD])
    assert second.decision.shadow.differences == pytest.approx([-0.1 / 1.9] * PERIOD)
    assert second.decision.shadow.backfilled == second.decision.shadow.forecasts == 5 * PERIOD
    assert (second.first_session, second.last_session) == (DAYS[0], DAYS[PERIOD - 1])
    history = production_changes(case.store.engine, case.registry.model_name)
    assert history[-1].model is not None
    assert history[-1].model.version == second.candidate_version == 2
    assert current_shadow(case.store.engine, case.registry.model_name, history) is None
    case.run("promotion", SECOND_DATASET)
    assert case.decisions == [first, second]
    shown = case.page("/models")
    assert all(str(escape(one.reason)) in shown for one in case.decisions)
    assert 'id="decision-2"' in shown
    assert f'id="decision-2-{first.last_session}"' in shown
    newest, oldest = json.loads(case.page("/api/v1/promotions"))["items"]
    assert (newest["outcome"], oldest["outcome"]) == ("shadow_lower_loss", "shadow")
    assert newest["shadow"]["evidence"] == list(second.decision.shadow.evidence)
    assert oldest["before_alarm"]["begins"] == str(HELD_OUT[-10])
    assert oldest["in_shadow"]


def test_the_sensor_requests_the_decision_once_it_is_due(case: Case, loop: Loop) -> None:
    case.forecast_and_score(DAYS[: PERIOD - 1])
    assert case.tick(loop.platform.instance) == []
    case.forecast_and_score(DAYS[:PERIOD])
    first, again = (case.tick(loop.platform.instance) for _ in range(2))
    (request,) = first
    assert request.partition_key == SECOND_DATASET
    assert request.asset_selection == [dg.AssetKey("promotion")]
    assert [one.run_key for one in again] == [request.run_key]


def test_a_loser_stays_for_as_long_again(case: Case) -> None:
    case.forecast_and_score()
    case.set_errors(1.1)
    case.run("promotion", SECOND_DATASET)
    case.run("promotion", SECOND_DATASET)
    case.run("promotion", SECOND_DATASET)
    outcomes = [(one.decision.outcome, one.in_shadow) for one in case.decisions]
    assert outcomes == [
        (PromotionOutcome.SHADOW, True),
        (PromotionOutcome.SHADOW_LOST, True),
        (PromotionOutcome.SHADOW_LOST, False),
    ]
    sizes = [len(one.decision.shadow.sessions) for one in case.decisions if one.decision.shadow]
    assert sizes == [PERIOD, 2 * PERIOD]
    assert case.registry.production() == case.registry.version(1)


def test_pages_list_the_last_decision_of_each_version(case: Case) -> None:
    case.forecast_and_score()
    case.set_errors(0.9)
    case.run("promotion", SECOND_DATASET)
    name = case.registry.model_name
    rows = list_models(case.store.engine, name, ModelFilter(model_name=name), 10)
    assert [(row["model_version"], row["promoted"]) for row in rows] == [(2, True), (1, None)]
    found = find_promotion(case.store.engine, rows[0])
    assert found is not None
    assert found["decision"].outcome is PromotionOutcome.SHADOW_LOWER_LOSS


def test_a_score_of_a_session_that_the_candidate_may_have_seen_is_left_out(case: Case) -> None:
    """A leak: forecasts as of sessions before its own, with the outcome as the forecast."""
    case.forecast_and_score()
    case.set_errors(1.1)
    model = case.registry.version(2)
    before = shadow_scores(case.store.engine, model)
    rows = read_performance(case.store.engine, SCORED[0], SCORED[-1])
    earlier = calendar.sessions(date(2013, 1, 2), AS_OF)
    moved = dict(zip(SCORED, earlier, strict=False))
    planted = rows[rows["session"].dt.date.isin(moved)].copy()
    planted["session"] = pd.to_datetime(planted["session"].dt.date.map(moved))
    planted["as_of_session"] = pd.to_datetime(
        [calendar.previous_session(day) for day in planted["session"].dt.date]
    )
    planted.loc[planted["role"] == "shadow", "absolute_error"] = 0.0
    save_performance(case.store.engine, planted, earlier, "run")
    assert len(shadow_performance(case.store.engine, model.key)[0]) > len(before.candidate)
    after = shadow_scores(case.store.engine, model)
    assert after.sessions == before.sessions
    assert after.differences().tolist() == before.differences().tolist()


def test_scores_of_later_sessions_change_no_decision(case: Case) -> None:
    """The decision is due after the period; the sessions since would have reversed it."""
    case.forecast_and_score()
    case.set_errors(1.1)
    rows = read_performance(case.store.engine, SCORED[0], SCORED[-1])
    later = (rows["role"] == "shadow") & (rows["session"] > pd.Timestamp(SCORED[PERIOD - 1]))
    rows.loc[later, "absolute_error"] = 0.0
    save_performance(case.store.engine, rows, SCORED, "run")
    case.run("promotion", SECOND_DATASET)
    assert case.decisions[-1].decision.outcome is PromotionOutcome.SHADOW_LOST


def test_shadow_forecasts_do_not_see_later_prices(case: Case) -> None:
    case.forecast_and_score()
    query = text(
        "SELECT ticker, as_of_session, predicted_price, lower_price, upper_price "
        "FROM predictions WHERE role = 'shadow' AND as_of_session <= :last ORDER BY 1, 2"
    )
    last = DAYS[9]
    with case.store.engine.connect() as connection:
        before = connection.execute(query, {"last": last}).all()
    bars = sample_bars().copy()
    later = bars["session"] > pd.Timestamp(last)
    wild = 1.0 + 0.3 * np.random.default_rng(1).random((int(later.sum()), 1))
    bars.loc[later, ["open", "high", "low", "close"]] *= wild
    store_bars(case.store.engine, bars)
    case.run("predictions", DAYS[0], DAYS[-1])
    with case.store.engine.connect() as connection:
        assert connection.execute(query, {"last": last}).all() == before


def test_production_is_the_version_whose_forecast_was_issued_first(case: Case) -> None:
    """A later run of the session by another version must not choose what is compared."""
    case.forecast_and_score()
    model = case.registry.version(2)
    before = shadow_scores(case.store.engine, model)
    rows = predictions_as_of(case.store.engine, DAYS).drop(columns=["predicted_at", "issue"])
    perfect = rows.assign(model_version=7, predicted_price=rows["last_close"])
    save_predictions(case.store.engine, perfect, DAYS, 7)
    case.run("performance_log", SCORED[0], SCORED[-1])
    after = shadow_scores(case.store.engine, model)
    assert after.differences().tolist() == before.differences().tolist()


def test_without_a_pair_there_is_no_evidence(case: Case) -> None:
    case.forecast_and_score(DAYS[:2])
    own, other = shadow_performance(case.store.engine, case.registry.version(2).key)
    paired = pair_scores(own, other.iloc[:0], AS_OF)
    assert paired.sessions == []
    assert paired.evidence(2, PERIOD).current == 1.0
