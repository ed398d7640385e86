"""The origin of forecasts, and lists of tickers."""

from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import Engine

from stock_assets.evaluation.scoring import score_due
from stock_assets.storage.forecasts import forecasts_due, save_performance, save_predictions
from stock_assets.storage.serving.lineage import (
    Span,
    count_later_changes,
    find_forecast,
    find_outcome,
    list_fetches,
    list_revisions,
)
from stock_assets.storage.serving.tickers import list_tickers
from stock_assets_tests.storage.examples import DAYS, bars, forecasts, store_bars

SPAN = Span("A", DAYS[0], DAYS[4])


@pytest.fixture
def brought(engine: Engine) -> Engine:
    """Bars from two runs; then a forecast; then a correction and a late bar."""
    store_bars(engine, bars("AB", DAYS[:3]), run_id="first")
    store_bars(engine, bars("A", DAYS[3:4], close=103.0), run_id="second")
    save_predictions(engine, forecasts(DAYS[2:3], "A"), DAYS[2:3], 1)
    save_predictions(engine, forecasts(DAYS[2:3], "A", version=2, price=102.0), DAYS[2:3], 2)
    store_bars(engine, bars("A", DAYS[:1], close=100.2), run_id="third")
    store_bars(engine, bars("B", DAYS[3:4], close=103.0), run_id="third")
    return engine


def test_find_forecast_returns_the_latest_unless_a_version_is_named(brought: Engine) -> None:
    last = find_forecast(brought, DAYS[2], "A", 1, None)
    first = find_forecast(brought, DAYS[2], "A", 1, 1)
    assert last is not None
    assert first is not None
    assert (last["model_version"], first["model_version"]) == (2, 1)
    for key in ((DAYS[1], "A", 1, None), (DAYS[2], "B", 1, None), (DAYS[2], "A", 2, None)):
        assert find_forecast(brought, *key) is None
    assert find_forecast(brought, DAYS[2], "A", 1, 3) is None


def test_an_outcome_belongs_to_one_version(brought: Engine) -> None:
    found = find_forecast(brought, DAYS[2], "A", 1, 2)
    assert found is not None
    assert find_outcome(brought, found) is None
    rows = score_due(forecasts_due(brought, DAYS[3:4]), bars("A", DAYS[:5]))
    save_performance(brought, rows, DAYS[3:4], "run")
    outcome = find_outcome(brought, found)
    assert outcome is not None
    assert outcome["predicted"] == 102.0
    assert outcome["model_version"] == 2


def test_list_fetches_names_the_runs(brought: Engine) -> None:
    listed = list_fetches(brought, SPAN)
    assert [(row["dagster_run_id"], row["rows"]) for row in listed] == [
        ("third", 1),
        ("first", 2),
        ("second", 1),
    ]
    assert (listed[1]["first_session"], listed[1]["last_session"]) == (DAYS[1], DAYS[2])
    assert {row["source"] for row in listed} == {"sample"}


def test_list_revisions_is_limited_to_the_span(brought: Engine) -> None:
    listed = list_revisions(brought, SPAN)
    assert {row["field"] for row in listed} == {"open", "high", "low", "close"}
    assert {row["dagster_run_id"] for row in listed} == {"third"}
    assert list_revisions(brought, Span("A", DAYS[1], DAYS[4])) == []
    assert list_revisions(brought, Span("B", DAYS[0], DAYS[4])) == []


def test_rows_that_changed_after_the_forecast_are_counted(brought: Engine) -> None:
    made = find_forecast(brought, DAYS[2], "A", 1, 1)
    assert made is not None
    days = SPAN.first, SPAN.last
    assert count_later_changes(brought, ["A"], days, made["predicted_at"]) == {
        "stored_later": 0,
        "revised_later": 1,
    }
    assert count_later_changes(brought, ["A", "B"], days, made["predicted_at"]) == {
        "stored_later": 1,
        "revised_later": 1,
    }
    now = pd.Timestamp.now("UTC").to_pydatetime()
    assert count_later_changes(brought, ["A", "B"], days, now) == {
        "stored_later": 0,
        "revised_later": 0,
    }


def test_list_tickers_has_the_stored_and_the_universe(brought: Engine) -> None:
    listed = list_tickers(brought, ["B", "Z"], 10)
    assert [row["ticker"] for row in listed] == ["A", "B", "Z"]
    assert [row["in_universe"] for row in listed] == [False, True, True]
    assert listed[0] == {
        "ticker": "A",
        "currency": "USD",
        "source": "sample",
        "first_session": DAYS[0],
        "last_session": DAYS[3],
        "last_close": 103.0,
        "in_universe": False,
    }
    assert (listed[2]["last_session"], listed[2]["last_close"]) == (None, None)
    assert list_tickers(brought, ["B", "Z"], 1, ("A",)) == listed[1:2]


def test_list_tickers_of_an_empty_database_is_the_universe(engine: Engine) -> None:
    assert [row["ticker"] for row in list_tickers(engine, ["Z"], 10)] == ["Z"]
