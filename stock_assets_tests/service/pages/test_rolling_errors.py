"""Rolling errors of one ticker are the scores of the evaluation, version by version."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
import pytest

from stock_assets.evaluation.metrics import summarise
from stock_assets.service.pages.ticker import rolling_errors
from stock_assets_tests.evaluation.examples import scored_forecasts


@pytest.mark.parametrize("window", [1, 5, 100])
def test_each_row_scores_the_window_of_its_version(window: int) -> None:
    rows = scored_forecasts(sessions=12, tickers=1)
    rows["model_version"], rows["dataset_run_id"] = [1] * 4 + [2] * 8, "20121231_120000"
    found = rolling_errors(rows, window)
    assert [row["session"] for row in found] == list(rows["session"].dt.date)[::-1]
    for row in found:
        own = rows[rows["model_version"] == row["model_version"]]
        expected = asdict(
            summarise(own[own["session"] <= pd.Timestamp(row["session"])].tail(window))
        )
        for name in ("sessions", "mape", "relative_mae", "direction_accuracy"):
            assert row[name] == pytest.approx(expected[name], rel=1e-12), name
        assert row["coverage"] is None, "these forecasts have no interval"


def test_no_scores_without_forecasts() -> None:
    assert rolling_errors(scored_forecasts().iloc[:0], 20) == []
