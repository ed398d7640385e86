"""The operations page on a database with problems of every kind."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from sqlalchemy import Engine

from stock_assets.market.bars import tidy
from stock_assets.service.pages.operations import SHOWN
from stock_assets.service.pages.operations import operations as operations_page
from stock_assets.storage.check_results import CheckRecord, save_check_results
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import record_retraining_decision, save_promotion
from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.quarantine import quarantine
from stock_assets.storage.serving.drift import newest_drift
from stock_assets_tests.conftest import Loop
from stock_assets_tests.service.conftest import state_for
from stock_assets_tests.service.pages.conftest import Read, parse, table, text
from stock_assets_tests.storage.examples import (
    DATASET,
    DAYS,
    MODEL,
    PROMOTION,
    RETRAINING,
    bars,
    drift,
    forecasts,
    panel,
    put_in_force,
    store_bars,
)

RUN = "0f0f0f0f-1111-2222-3333-444444444444"


@pytest.fixture
def operations(engine: Engine) -> BeautifulSoup:
    """The page with a late ticker, a gap, a revision, findings and drift."""
    store_bars(engine, bars(["AAPL"], DAYS))
    store_bars(engine, bars(["IBM"], DAYS[:-1]))
    store_bars(engine, bars(["GONE"], DAYS[:-1]))
    store_bars(engine, bars(["MSFT"], [*DAYS[:-5], *DAYS[-4:]]))
    store_bars(engine, bars(["AAPL"], DAYS[-1:], close=99.5))
    broken = tidy(
        pd.DataFrame(
            {
                "ticker": ["MSFT"],
                "session": [pd.Timestamp(DAYS[-5])],
                **{name: [10.0] for name in ("open", "high", "low", "close", "volume")},
                **{name: [0.0] for name in ("dividends", "stock_splits")},
            }
        )
    )
    findings = broken[["ticker", "session"]].assign(
        rule="high_is_highest", detail="10 is <b>low</b>"
    )
    quarantine(engine, broken, findings, "sample", RUN)
    made = forecasts(DAYS[-1:], ["AAPL"]).assign(dagster_run_id=RUN)
    drifted = drift(DAYS[-1:], RSI=0.26, ATR=0.04, Volume=0.25, ROC=0.07)
    save_predictions(engine, made, DAYS[-1:], 1, drift=drifted)
    save_panel(engine, panel(DATASET))
    save_promotion(engine, PROMOTION)
    put_in_force(engine)
    record_retraining_decision(engine, RETRAINING)
    day = str(DAYS[-1])
    passed = CheckRecord(RUN, "raw_prices", "histories_agree", day, day, True, "warning", "nothing")
    found = replace(
        passed, check_name="bars_are_sound", passed=False, message="stale <i>repeat</i>: 1"
    )
    save_check_results(engine, [passed, found])
    return parse(operations_page(state_for(engine, dagster_ui="http://dagster.test:3000")))


def test_problems_are_listed_with_links_to_dagster(operations: BeautifulSoup) -> None:
    gaps = {row[0]: row[1:] for row in table(operations, "#gaps-table")}
    assert gaps["IBM"] == [str(DAYS[-2]), "1"]
    assert gaps["MSFT"] == [str(DAYS[-1]), "1"]
    assert gaps["GOOG"] == ["none", "–"]
    assert "AAPL" not in gaps
    assert "GONE" not in gaps  # not in the universe

    (kept,) = table(operations, "#quarantine-table")
    assert kept[:4] == ["MSFT", str(DAYS[-5]), "high_is_highest", "10 is <b>low</b>"]
    assert kept[5:] == ["in quarantine", RUN[:8]]

    revised = table(operations, "#revisions-table")
    assert {row[2]: row[4] for row in revised}["close"] == "99.5000"

    sound, agree = table(operations, "#checks-table")
    expected = ["warning", "stale <i>repeat</i>: 1", str(DAYS[-1])]
    assert sound[:5] == ["bars are sound", "raw_prices", *expected]
    assert agree[2] == "✓ passed"

    assert table(operations, "#drift-table") == [
        ["RSI", "0.260", "0.050", "100", "above baseline"],
        ["Volume", "0.250", "0.050", "100", "above baseline"],
        ["ROC", "0.070", "0.050", "100", "above baseline"],
        ["ATR", "0.040", "0.050", "100", "within baseline"],
    ]
    assert "3 of 4" in text(operations, "section:has(#drift)")

    (decided,) = table(operations, "#retraining-table")
    assert decided[:3] == [str(RETRAINING.session), "retrain", RETRAINING.reason]

    newest, *_ = table(operations, "#daily-table")
    assert newest[:4] == [str(DAYS[-1]), "2", "1", "–"]

    (run,) = operations.select("#runs-table a")
    assert run["href"] == f"http://dagster.test:3000/runs/{RUN}"


def test_complete_loop_has_no_gaps(read: Read, loop: Loop) -> None:
    page = read("/operations")
    assert not table(page, "#gaps-table")
    newest, *_ = table(page, "#daily-table")
    assert newest[1] == "5"
    assert newest[5] == loop.ingest.run_id[:8]


def test_drift_is_the_stored_one(read: Read, loop: Loop) -> None:
    stored = newest_drift(loop.store.engine, MODEL)
    expected = [
        [row["feature"], f"{row['psi']:,.3f}", f"{row['baseline_p95']:,.3f}"] for row in stored
    ]
    assert [row[:3] for row in table(read("/operations"), "#drift-table")] == expected[:SHOWN]
