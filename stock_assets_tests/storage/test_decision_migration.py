"""Decisions stored as sentences become facts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text

from stock_assets.cli.platform import Platform
from stock_assets.evaluation.hard_limits import ThresholdCheck
from stock_assets.evaluation.promotion_rule import PromotionDecision, PromotionOutcome
from stock_assets.evaluation.retraining_rule import (
    RetrainingDecision,
    RetrainingOutcome,
)
from stock_assets.evaluation.significance import Edge
from stock_assets.reporting.decision_text import breach_text
from stock_assets.storage.database import upgrade
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import promotion_of, retraining_decisions_newest_first
from stock_assets_tests.conftest import throw_away_database
from stock_assets_tests.storage.examples import DATASET, MODEL, panel
from stock_assets_tests.storage.test_migrations import MIGRATIONS
from stock_assets_tests.tampering import forget_record

BEFORE = "0010"
SESSION = date(2013, 3, 1)
MEASURED = "the candidate's relative MAE is 0.98 on 315 forecasts of 63 sessions"
NO_EDGE = (
    "No significant edge over persistence (+0.0102% of price in mean absolute error, "
    "Diebold-Mariano p = 0.64 over 63 sessions)"
)
CANDIDATE = {
    "relative_mae": 0.98,
    "mase_se": 0.01,
    "forecasts": 315,
    "sessions": 63,
    "error_difference": 0.0002,
    "dm_persistence": 0.47,
    "p_persistence": 0.64,
}
MET = {**CANDIDATE, "dm_production": -1.2, "p_production": 0.21}
PRODUCTION = {"relative_mae": 0.99, "error_difference": 0.0003}


@pytest.fixture(scope="module")
def database_before(platform: Platform) -> Iterator[str]:
    """Name of a database of the version before, for copies of it."""
    with throw_away_database(platform) as url:
        upgrade(url)
        engine = create_engine(url)
        save_panel(engine, panel(DATASET))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["url"] = url
        forget_record(engine)
        command.downgrade(config, BEFORE)
        engine.dispose()
        yield str(engine.url.database)


@pytest.fixture
def engine(platform: Platform, database_before: str) -> Iterator[Engine]:
    """A database of the version before."""
    with throw_away_database(platform, database_before) as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


def promotion(
    engine: Engine,
    reason: str,
    promoted: bool,
    candidate: dict[str, Any],
    production: dict[str, Any] | None,
) -> PromotionDecision:
    """The decision that a stored sentence becomes."""
    columns = {
        "dataset_run_id": DATASET,
        "candidate_version": 1,
        "as_of_session": SESSION,
        "model_name": MODEL,
        "metric": "relative_mae",
        "candidate": json.dumps(candidate),
        "production": None if production is None else json.dumps(production),
        "persistence": json.dumps({"relative_mae": 1.0}),
        "first_session": SESSION,
        "last_session": SESSION,
        "promoted": promoted,
        "reason": reason,
        "mlflow_run_id": "run",
    }
    insert(engine, "model_promotions", columns)
    upgrade(engine.url.render_as_string(hide_password=False))
    record = promotion_of(engine, MODEL, DATASET)
    assert record is not None
    assert "relative_mae_se" in record.candidate
    return record.decision


def insert(engine: Engine, table: str, columns: dict[str, Any]) -> None:
    names, values = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), columns)


def test_the_first_model(engine: Engine) -> None:
    reason = (
        f"Promoted: {MEASURED}, and there is no production model yet for these tickers and "
        f"sessions; it is better than persistence (1). {NO_EDGE}"
    )
    decision = promotion(engine, reason, True, CANDIDATE, None)
    assert decision.outcome is PromotionOutcome.FIRST_MODEL
    assert (decision.candidate, decision.production, decision.persistence) == (0.98, None, 1.0)
    assert (decision.forecasts, decision.sessions) == (315, 63)
    assert decision.edge is Edge.NONE
    assert decision.against_production is None
    test = decision.against_persistence
    assert (test.difference, test.statistic, test.p_value) == (pytest.approx(1.02e-4), 0.47, 0.64)


@pytest.mark.parametrize(
    ("promoted", "against", "outcome"),
    [
        (True, "lower than production's 0.99", PromotionOutcome.BETTER),
        (
            False,
            "lower than production's 0.99 by less than 2.00%",
            PromotionOutcome.MARGIN_NOT_REACHED,
        ),
        (
            False,
            "lower than production's 0.99, but not significantly at 0.05 (-0.01% of price in mean "
            "absolute error, Diebold-Mariano p = 0.21 over 63 sessions)",
            PromotionOutcome.NOT_SIGNIFICANT,
        ),
        (
            False,
            "lower than production's 0.99, but significantly worse session by session (-0.01% of "
            "price in mean absolute error, Diebold-Mariano p = 0.01 over 63 sessions)",
            PromotionOutcome.SIGNIFICANTLY_WORSE,
        ),
    ],
)
def test_a_candidate_against_production(
    engine: Engine, promoted: bool, against: str, outcome: PromotionOutcome
) -> None:
    verdict = "Promoted" if promoted else "Not promoted"
    reason = (
        f"{verdict}: {MEASURED}, {against}; it is better than persistence (1). {NO_EDGE}. "
        "Production is version 4, refit of 3; version 3 was scored in its place, for the refit "
        "may have been trained on these sessions. 310 more forecasts of the candidate have no "
        "counterpart in production's and decided nothing"
    )
    decision = promotion(engine, reason, promoted, MET, PRODUCTION)
    assert (decision.outcome, decision.production) == (outcome, 0.99)
    assert (decision.evaluated_version, decision.unmatched_forecasts) == (3, 310)
    assert decision.against_production is not None
    assert decision.against_production.difference == pytest.approx(-1e-4)
    assert decision.against_production.p_value == 0.21
    margin = outcome is PromotionOutcome.MARGIN_NOT_REACHED
    assert decision.minimum_improvement == (0.02 if margin else None)
    level = outcome is PromotionOutcome.NOT_SIGNIFICANT
    assert decision.significance == (0.05 if level else None)


@pytest.mark.parametrize(
    ("sentence", "edge"),
    [
        ("Significant edge over persistence (-0.02% of price in mean", Edge.BETTER),
        ("No significant edge over persistence, significantly worse (+0.02% of price", Edge.WORSE),
    ],
)
def test_the_edge_over_persistence(engine: Engine, sentence: str, edge: Edge) -> None:
    reason = f"Promoted: {MEASURED}, and production's is undefined; it is better. {sentence})"
    decision = promotion(engine, reason, True, CANDIDATE, {"relative_mae": None})
    assert (decision.outcome, decision.edge) == (PromotionOutcome.PRODUCTION_UNDEFINED, edge)
    sign = -1 if edge is Edge.BETTER else 1
    assert decision.against_persistence.difference == pytest.approx(sign * 2e-4)


def test_a_score_without_a_value_or_a_test(engine: Engine) -> None:
    reason = f"Not promoted: {MEASURED}, which is undefined. No significant edge over persistence"
    undefined = {"relative_mae": None, "mase_se": None, "undefined_persistence": "too few"}
    decision = promotion(engine, reason, False, undefined, None)
    assert decision.outcome is PromotionOutcome.CANDIDATE_UNDEFINED
    assert (decision.candidate, decision.edge) == (None, Edge.UNDEFINED)
    assert decision.against_persistence.reason == "too few"


def retraining(
    engine: Engine, reason: str, retrain: bool, breaches: list[str], metrics: Any
) -> RetrainingDecision:
    """The decision that a stored sentence becomes."""
    columns = {
        "session": SESSION,
        "retrain": retrain,
        "breaches": json.dumps(breaches),
        "reason": reason,
        "metrics": None if metrics is None else json.dumps(metrics),
    }
    insert(engine, "retraining_decisions", columns)
    upgrade(engine.url.render_as_string(hide_password=False))
    (record,) = retraining_decisions_newest_first(engine)
    return record.decision


BREACH = ["relative MAE 1.5 is not within 1.1", "direction accuracy nan does not reach 0.4"]
WINDOW = "100 forecasts of 20 sessions up to 2013-03-01"
METRICS = {"relative_mae": 1.50032, "direction_accuracy": None}


def test_a_breach_with_its_thresholds(engine: Engine) -> None:
    decision = retraining(engine, f"Retrain: {WINDOW}: {'; '.join(BREACH)}", True, BREACH, METRICS)
    assert decision.outcome is RetrainingOutcome.BREACH
    assert decision.breaches == (
        ThresholdCheck("relative_mae", 1.50032, 1.1, "at_most"),
        ThresholdCheck("direction_accuracy", None, 0.4, "at_least"),
    )
    assert (decision.forecasts, decision.sessions, decision.metrics) == (100, 20, METRICS)


@pytest.mark.parametrize(
    ("sentence", "breach"),
    [
        (
            "relative MAE inf is not within 1.1",
            ThresholdCheck("relative_mae", None, 1.1, "at_most"),
        ),
        ("the relative MAE is too high: 1.5", ThresholdCheck("relative_mae", 1.6, 1.5, "at_most")),
        ("RMSE 1.5e+02 is not within 1e+02", ThresholdCheck("RMSE", 150.0, 100.0, "at_most")),
        ("unreadable", ThresholdCheck("unreadable", None, 0.0, "at_most")),
    ],
)
def test_an_unknown_breach_does_not_stop_the_upgrade(
    engine: Engine, sentence: str, breach: ThresholdCheck
) -> None:
    metrics = {"relative_mae": None if "inf" in sentence else 1.6}
    decision = retraining(engine, f"Retrain: {WINDOW}: {sentence}", True, [sentence], metrics)
    assert decision.breaches == (breach,)
    assert breach_text(breach)


def test_a_breach_while_cooling_down(engine: Engine) -> None:
    reason = (
        "Cooling down: 3 sessions since the retraining as of 2013-02-26, of the 20 that must pass; "
        f"{WINDOW}: {BREACH[0]}"
    )
    decision = retraining(engine, reason, False, BREACH[:1], METRICS)
    assert decision.outcome is RetrainingOutcome.COOLING_DOWN
    assert (decision.elapsed_sessions, decision.cooldown_sessions) == (3, 20)
    assert decision.last_retraining == date(2013, 2, 26)


@pytest.mark.parametrize(
    ("reason", "metrics", "outcome", "minimum"),
    [
        (f"Healthy: {WINDOW} keep every threshold", METRICS, RetrainingOutcome.HEALTHY, None),
        (
            "No decision: 49 forecasts of 10 sessions up to 2013-03-01 are fewer than 50 forecasts",
            None,
            RetrainingOutcome.TOO_FEW,
            50,
        ),
    ],
)
def test_a_decision_not_to_retrain(
    engine: Engine, reason: str, metrics: Any, outcome: RetrainingOutcome, minimum: int | None
) -> None:
    decision = retraining(engine, reason, False, [], metrics)
    assert (decision.outcome, decision.minimum_forecasts) == (outcome, minimum)
    assert decision.breaches == ()
