"""The evidence for retraining, on the performance page and in the API."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import Engine

from stock_assets.evaluation.retraining_rule import RetrainingOutcome
from stock_assets.service.app import create_app
from stock_assets.service.app_state import AppState
from stock_assets.service.pages.performance import PerformanceParams, performance
from stock_assets.storage.decisions import RetrainingRecord, record_retraining_decision
from stock_assets.storage.forecasts import read_performance, save_performance
from stock_assets_tests.conftest import REPLAYED, Loop
from stock_assets_tests.service.conftest import send, state_for
from stock_assets_tests.service.pages.conftest import figure, parse, table, text
from stock_assets_tests.storage.examples import ALARM, RETRAINING, put_in_force

FIRST, SECOND, THIRD = date(2013, 1, 7), date(2013, 1, 8), date(2013, 1, 9)


def decided(session: date, path: dict[date, float], *, retrain: bool = False) -> RetrainingRecord:
    """A decision whose evidence is a path."""
    alarm = replace(ALARM, evidence=path[session], path=path)
    decision = replace(
        RETRAINING.decision,
        outcome=RetrainingOutcome.ALARM if retrain else RetrainingOutcome.HEALTHY,
        session=session,
        breaches=(),
        evidence_from=min(path),
        alarm=alarm,
    )
    return RetrainingRecord(session, retrain, decision, "20130108_120000" if retrain else None)


@pytest.fixture
def state(engine: Engine, loop: Loop) -> AppState:
    """Scores of a month, and decisions of three sessions; the second raised the alarm."""
    rows = read_performance(loop.store.engine, *REPLAYED)
    save_performance(engine, rows, sorted(set(rows["session"].dt.date)), "run")
    put_in_force(engine)
    record_retraining_decision(engine, decided(FIRST, {FIRST: 20.0}))
    record_retraining_decision(engine, decided(SECOND, {FIRST: 20.0, SECOND: 260.0}, retrain=True))
    record_retraining_decision(engine, decided(THIRD, {THIRD: 0.5}))
    return state_for(engine)


@pytest.fixture
def page(state: AppState) -> BeautifulSoup:
    """The performance page."""
    return parse(performance(state, PerformanceParams()))


def test_the_path_climbs_to_the_alarm_and_begins_again(page: BeautifulSoup) -> None:
    path, limit = figure(page, "evidence-path")["data"]
    assert path["x"] == [str(FIRST), str(SECOND), None, str(THIRD), None]
    assert path["y"] == [20.0, 260.0, None, 0.5, None]
    assert limit["y"] == [252.0, 252.0, None, 252.0, None]


def test_the_newest_decision_is_shown_with_the_state_of_each_detector(page: BeautifulSoup) -> None:
    assert text(page, ".decision").startswith(f"{THIRD}: Healthy: evidence 0.5 of 252")
    rows = table(page, "#detectors")
    assert [row[1:] for row in rows] == [
        ["1.50", "0.020", "0.015", "0.100"],
        ["1.00", "0.000", "0.070", "0.200"],
        ["1.10", "–", "0.070", "0.200"],
    ]


def test_the_condition_of_the_guarantee_is_stated(page: BeautifulSoup) -> None:
    stated = text(page, "#guarantee")
    for part in ("at most its m0", "at least 252 sessions", "relative MAE at most 1.5", "Drift"):
        assert part in stated


def test_without_a_decision_the_page_says_so(engine: Engine, loop: Loop) -> None:
    rows = read_performance(loop.store.engine, *REPLAYED)
    save_performance(engine, rows, sorted(set(rows["session"].dt.date)), "run")
    page = parse(performance(state_for(engine), PerformanceParams()))
    assert text(page, ".decision").startswith("No decision yet")
    assert page.select_one("#evidence-path") is None


def test_a_decision_of_an_earlier_version_is_readable(engine: Engine, loop: Loop) -> None:
    rows = read_performance(loop.store.engine, *REPLAYED)
    save_performance(engine, rows, sorted(set(rows["session"].dt.date)), "run")
    decision = replace(
        RETRAINING.decision, outcome=RetrainingOutcome.BREACH, alarm=None, model_version=None
    )
    record_retraining_decision(engine, replace(RETRAINING, decision=decision))
    page = parse(performance(state_for(engine), PerformanceParams()))
    assert "Retrain: relative MAE 1.600 exceeds 1.500" in text(page, ".decision")
    answer = send(create_app(state_for(engine)), f"/api/v1/retrainings/{RETRAINING.session}")
    assert answer.json() | {"alarm": None, "path": [], "outcome": "breach"} == answer.json()


def test_the_api_returns_the_state_and_the_path(state: AppState) -> None:
    app = create_app(state)
    found = send(app, f"/api/v1/retrainings/{SECOND}").json()
    assert found["outcome"] == "alarm"
    assert found["alarm"]["raised"]
    assert found["alarm"]["detectors"]["loss"] == {
        **{"evidence": 1.5, "number": 0.02, "m0": 0.015, "b": 0.1}
    }
    assert found["path"] == [
        {"session": str(FIRST), "evidence": 20.0},
        {"session": str(SECOND), "evidence": 260.0},
    ]
    listed = send(app, "/api/v1/retrainings").json()["items"]
    assert [item["alarm"]["evidence"] for item in listed] == [0.5, 260.0, 20.0]
    assert "path" not in listed[0]
    assert send(app, "/api/v1/retrainings/2013-01-10").status_code == 404
