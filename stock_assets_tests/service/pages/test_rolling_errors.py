"""Rolling errors of one ticker are the scores of the evaluation, version by version."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.evaluation.metrics import score_rows, summarise
from stock_assets.market.calendar import next_sessions
from stock_assets.service.pages.ticker import rolling_errors

PRICES = st.floats(1, 1000)
TRIPLES = st.lists(st.tuples(PRICES, PRICES, PRICES), min_size=1, max_size=12)


def scored(triples: list[tuple[float, float, float]], second_from: int) -> pd.DataFrame:
    days = next_sessions(date(2013, 1, 2), len(triples))
    actual, predicted, persistence = zip(*triples, strict=True)
    rows = pd.DataFrame(
        {
            "session": pd.DatetimeIndex(days),
            "ticker": "A",
            "horizon": 1,
            "actual": actual,
            "predicted": predicted,
            "persistence": persistence,
        }
    )
    bounds = rows.assign(lower=rows["predicted"] * 0.9, upper=rows["predicted"] * 1.1)
    version = [1 if place < second_from else 2 for place in range(len(rows))]
    return score_rows(bounds).assign(model_version=version)


@given(TRIPLES, st.integers(0, 12), st.integers(1, 5))
def test_each_row_scores_the_window_of_its_version(
    triples: list[tuple[float, float, float]], second_from: int, window: int
) -> None:
    rows = scored(triples, second_from)
    told = rolling_errors(rows, window)
    assert [row["session"] for row in told] == list(rows["session"].dt.date)[::-1]
    for row in told:
        own = rows[rows["model_version"] == row["model_version"]]
        upto = own[own["session"] <= pd.Timestamp(row["session"])].tail(window)
        expected = summarise(upto)
        assert row["sessions"] == expected.sessions
        assert row["mape"] == pytest.approx(expected.mape, rel=1e-6, abs=1e-9)
        assert row["coverage"] == pytest.approx(expected.coverage, abs=1e-9)
        assert row["relative_mae"] == pytest.approx(expected.relative_mae, rel=1e-6, nan_ok=True)


def test_nothing_scored_is_no_row() -> None:
    assert rolling_errors(scored([(1.0, 1.0, 1.0)], 1).iloc[:0], 20) == []
