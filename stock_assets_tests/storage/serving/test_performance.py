"""Scores over windows of sessions: sums of the database, windows, pages and versions."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from stock_assets.evaluation.metrics import one_group, pooled_scores, score_rows, sum_terms
from stock_assets.storage.forecasts import recent_performance, save_performance
from stock_assets.storage.serving.paging import read_frame
from stock_assets.storage.serving.performance import (
    TERM_COLUMNS,
    TERMS,
    ScoreFilter,
    newest_scored_session,
    rolling_scores,
    ticker_scores,
)
from stock_assets.storage.serving.window import newest_window
from stock_assets_tests.storage.examples import DATASET, DAYS

OTHER = "20130131_120000"
EVERYTHING = 10_000


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Scored forecasts of two versions; with gaps, two horizons, and moves of zero."""
    random = np.random.default_rng(5)
    made = pd.DataFrame(
        [
            (pd.Timestamp(day), ticker, horizon, version)
            for version, days in ((1, DAYS[:12]), (2, DAYS[6:]))
            for day in days
            for ticker in "ABC"
            for horizon in (1, 2)
        ],
        columns=["session", "ticker", "horizon", "model_version"],
    )
    made = made[random.random(len(made)) < 0.8].reset_index(drop=True)
    before = random.lognormal(4, 1, len(made))
    moved = before * np.exp(random.normal(0, 0.02, len(made)))
    still = random.random(len(made)) < 0.1
    forecast = before * np.exp(random.normal(0, 0.02, len(made)))
    return score_rows(
        made.assign(
            as_of_session=made["session"],
            dataset_run_id=DATASET,
            mlflow_run_id="abc",
            persistence=before,
            actual=np.where(still, before, moved),
            predicted=forecast,
            lower=forecast * 0.98,
            upper=forecast * 1.02,
        )
    )


@pytest.fixture
def scored(engine: Engine, rows: pd.DataFrame) -> Engine:
    """A database with these scores."""
    save_performance(engine, rows, DAYS, "run")
    return engine


def test_the_database_adds_up_the_terms_of_the_evaluation(
    scored: Engine, rows: pd.DataFrame
) -> None:
    """The SQL and the Python definitions of the terms are equal."""
    query = f"""
        SELECT model_version, ticker, count(DISTINCT session) AS sessions, {TERMS}
        FROM model_performance_log GROUP BY model_version, ticker ORDER BY 1, 2"""
    found = read_frame(scored, text(query)).set_index(["model_version", "ticker"])
    expected = sum_terms(rows, [rows["model_version"], rows["ticker"]])
    assert set(TERM_COLUMNS) == set(expected.columns) - {"sessions"}
    pd.testing.assert_frame_equal(
        found[expected.columns], expected, check_dtype=False, rtol=1e-13, atol=0
    )


def matching(rows: pd.DataFrame, wanted: ScoreFilter) -> pd.DataFrame:
    kept = pd.Series(True, rows.index)
    if wanted.tickers:
        kept &= rows["ticker"].isin(wanted.tickers)
    if wanted.horizon:
        kept &= rows["horizon"] == wanted.horizon
    if wanted.model_version:
        kept &= rows["model_version"] == wanted.model_version
    return rows[kept]


def require_scores(found: dict[str, Any], window: pd.DataFrame) -> None:
    """Require the scores of a window; the sums of two orders may differ in the last bit."""
    (expected,) = pooled_scores(sum_terms(window, one_group(window))).to_dict("records")
    for name, value in expected.items():
        score = np.nan if found[name] is None else found[name]
        assert score == pytest.approx(value, rel=1e-12, abs=1e-15, nan_ok=True), name
    assert found["first_session"] == window["session"].min().date()
    assert found["session"] == window["session"].max().date()


def require_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(expected), rtol=1e-12)


WANTED = [
    ScoreFilter(),
    ScoreFilter(tickers=["B"]),
    ScoreFilter(horizon=2),
    ScoreFilter(tickers=["A", "C"], horizon=1, model_version=2),
]


@pytest.mark.parametrize("window", [1, 4, 100])
@pytest.mark.parametrize("wanted", WANTED[::2])
def test_rolling_scores_are_those_of_the_window(
    scored: Engine, rows: pd.DataFrame, wanted: ScoreFilter, window: int
) -> None:
    chosen = matching(rows, wanted)
    found = rolling_scores(scored, wanted, window, None, None, EVERYTHING)
    assert [(row["session"], row["model_version"]) for row in found] == sorted(
        {(s.date(), v) for s, v in zip(chosen["session"], chosen["model_version"], strict=True)},
        reverse=True,
    )
    for row in found:
        own = chosen[chosen["model_version"] == row["model_version"]]
        until = own[own["session"] <= pd.Timestamp(row["session"])]
        newest = sorted(until["session"].unique())[-window:]
        require_scores(row, until[until["session"].isin(newest)])


@pytest.mark.parametrize("size", [1, 3, 8])
def test_pages_and_bounds_change_no_score(scored: Engine, size: int) -> None:
    wanted, first, last = ScoreFilter(), DAYS[3], DAYS[12]
    whole = rolling_scores(scored, wanted, 4, None, None, EVERYTHING)
    inside = [row for row in whole if first <= row["session"] <= last]
    walked: list[dict[str, Any]] = []
    after: tuple[date, int, str] | None = None
    while page := rolling_scores(scored, wanted, 4, first, last, size, after):
        walked += page
        after = page[-1]["session"], page[-1]["model_version"], DATASET
    require_same(walked, inside)


@pytest.mark.parametrize("window", [1, 4, 100])
@pytest.mark.parametrize("wanted", WANTED)
def test_ticker_scores_are_those_of_the_window_of_their_version(
    scored: Engine, rows: pd.DataFrame, wanted: ScoreFilter, window: int
) -> None:
    chosen = matching(rows, wanted)
    end = newest_scored_session(scored, wanted)
    assert end == chosen["session"].max().date()
    found = ticker_scores(scored, wanted, window, end, EVERYTHING)
    assert found
    assert {row["model_version"] for row in found} == {2}  # the other stopped before
    names = [row["ticker"] for row in found]
    assert names == sorted(names)
    own = chosen[chosen["model_version"] == 2]
    newest = sorted(own["session"].unique())[-window:]
    for row in found:
        of_ticker = own[(own["ticker"] == row["ticker"]) & own["session"].isin(newest)]
        require_scores(row, of_ticker)


def test_versions_of_one_session_are_never_pooled(scored: Engine) -> None:
    found = ticker_scores(scored, ScoreFilter(), 5, DAYS[9], EVERYTHING)
    assert {(row["ticker"], row["model_version"]) for row in found} == {
        (ticker, version) for ticker in "ABC" for version in (1, 2)
    }
    after = found[2]["ticker"], found[2]["model_version"], DATASET
    page = ticker_scores(scored, ScoreFilter(), 5, DAYS[9], 2, after)
    require_same(page, found[3:5])


def test_equal_numbers_of_two_datasets_are_never_pooled(engine: Engine, rows: pd.DataFrame) -> None:
    """Those of two registered models, in an installation that gave both the same number."""
    later = rows["session"] > pd.Timestamp(DAYS[11])
    renamed = rows[later].assign(model_version=1, dataset_run_id=OTHER)
    both = pd.concat([rows[rows["model_version"] == 1], renamed])
    save_performance(engine, both, DAYS, "run")
    found = rolling_scores(engine, ScoreFilter(), 100, None, None, EVERYTHING)
    firsts = {row["dataset_run_id"]: row["first_session"] for row in found}
    assert firsts == {DATASET: DAYS[0], OTHER: DAYS[12]}
    assert {row["model_version"] for row in found} == {1}
    own = rolling_scores(engine, ScoreFilter((), None, 1, OTHER), 100, None, None, EVERYTHING)
    assert own == [row for row in found if row["dataset_run_id"] == OTHER]
    tickers = ticker_scores(engine, ScoreFilter(), 100, DAYS[-1], EVERYTHING)
    assert {row["dataset_run_id"] for row in tickers} == {OTHER}
    assert min(row["first_session"] for row in tickers) == DAYS[12]
    for dataset in (DATASET, OTHER):
        kept = recent_performance(engine, 100, (dataset, 1))
        assert len(kept) == (both["dataset_run_id"] == dataset).sum()
    window = newest_window(engine, 100)
    assert window is not None
    assert window.pooled["first_session"] == DAYS[12]


def test_undefined_scores_are_none(engine: Engine, rows: pd.DataFrame) -> None:
    still = rows.head(1).assign(actual=rows["persistence"].iloc[0])
    save_performance(engine, score_rows(still), DAYS, "run")
    (found,) = rolling_scores(engine, ScoreFilter(), 20, None, None, EVERYTHING)
    assert found["relative_mae"] is None
    assert found["direction_accuracy"] is None
    assert found["base_rate_up"] is None


def test_without_scores_the_list_is_empty(engine: Engine) -> None:
    assert newest_scored_session(engine, ScoreFilter()) is None
    assert rolling_scores(engine, ScoreFilter(), 20, None, None, EVERYTHING) == []
