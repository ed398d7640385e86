"""The newest window is scored as :mod:`stock_assets.evaluation` scores it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine

from stock_assets.evaluation.metrics import (
    by_ticker,
    persistence_forecasts,
    score_rows,
    summarise,
)
from stock_assets.evaluation.scoring import score_due
from stock_assets.evaluation.significance import loss_difference
from stock_assets.storage.forecasts import recent_performance, save_performance, save_predictions
from stock_assets.storage.serving.window import newest_window
from stock_assets_tests.conftest import DATASET, Loop
from stock_assets_tests.storage.examples import DAYS, bars, forecasts

SCORES = ("mae", "rmse", "mape", "relative_mae", "direction_accuracy", "base_rate_up", "coverage")


@pytest.mark.parametrize("window", [1, 5, 1000])
def test_scores_are_those_of_the_evaluation(loop: Loop, window: int) -> None:
    found = newest_window(loop.store.engine, window)
    assert found is not None
    rows = recent_performance(loop.store.engine, window, (DATASET, found.pooled["model_version"]))
    expected = summarise(rows)
    assert found.pooled["forecasts"] == expected.forecasts
    assert found.pooled["sessions"] == expected.sessions
    assert found.pooled["session"] == rows["session"].max().date()
    assert found.pooled["first_session"] == rows["session"].min().date()
    for name in SCORES:
        assert found.pooled[name] == pytest.approx(getattr(expected, name), rel=1e-12)
    tickers = by_ticker(rows)
    assert [row["ticker"] for row in found.tickers] == list(tickers["ticker"])
    for name in ("mape", "relative_mae", "coverage"):
        scores = np.array([row[name] for row in found.tickers], dtype=float)
        np.testing.assert_allclose(scores, tickers[name], rtol=1e-12)


def test_differences_are_those_of_the_test_oldest_first(loop: Loop) -> None:
    found = newest_window(loop.store.engine, 20)
    assert found is not None
    rows = recent_performance(loop.store.engine, 20, (DATASET, found.pooled["model_version"]))
    expected = loss_difference(rows, score_rows(persistence_forecasts(rows)))
    np.testing.assert_allclose(found.differences, expected, rtol=1e-9, atol=1e-15)


def test_after_a_rollback_the_older_version_is_the_one_that_counts(engine: Engine) -> None:
    for version in (1, 2):
        save_predictions(engine, forecasts(DAYS[:1], version=version), DAYS[:1], version)
    made = pd.concat([forecasts(DAYS[:1], version=version) for version in (1, 2)])
    save_performance(engine, score_due(made, bars()), DAYS[1:2], "run")
    newest = newest_window(engine, 20)
    assert newest is not None
    assert newest.pooled["model_version"] == 2
    save_predictions(engine, forecasts(DAYS[:1]), DAYS[:1], 1)
    rolled_back = newest_window(engine, 20)
    assert rolled_back is not None
    assert rolled_back.pooled["model_version"] == 1


def test_without_scores_there_is_no_window(engine: Engine) -> None:
    assert newest_window(engine, 20) is None
