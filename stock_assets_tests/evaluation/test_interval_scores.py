"""Interval scores: of equal coverage the narrower wins, and calm sessions do not hide wild ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stock_assets.evaluation.interval_scores import (
    BLOCK_SESSIONS,
    interval_losses,
    interval_table,
    ticker_coverage,
)
from stock_assets.evaluation.metrics import score_rows

SESSIONS = 6 * BLOCK_SESSIONS
WILD = np.repeat([1.0, 3.0], BLOCK_SESSIONS)


def scored(half_width: np.ndarray | float, coverage: float = 0.9) -> pd.DataFrame:
    """Two tickers at 100 whose prices move by 1 or by 3 in alternating months."""
    days = pd.date_range("2013-01-01", periods=SESSIONS, freq="B")
    volatility = np.tile(WILD, 3)
    moves = np.random.default_rng(1).normal(size=(SESSIONS, 2)) * volatility[:, np.newaxis]
    widths = np.broadcast_to(np.asarray(half_width), SESSIONS).repeat(2)
    frame = pd.DataFrame(
        {
            "session": days.repeat(2),
            "ticker": ["A", "B"] * SESSIONS,
            "horizon": 1,
            "actual": 100.0 + moves.ravel(),
            "predicted": 100.0,
            "persistence": 100.0,
            "lower": 100.0 - widths,
            "upper": 100.0 + widths,
            "coverage": coverage,
        }
    )
    return score_rows(frame)


def test_loss_is_width_and_penalty_as_a_fraction_of_the_last_close() -> None:
    rows = scored(2.0).head(2).assign(actual=[101.0, 104.0])
    assert interval_losses(rows).tolist() == pytest.approx([0.04, 0.04 + 20 * 0.02])


def test_intervals_that_follow_volatility_beat_a_constant_width() -> None:
    table = interval_table(
        {"following": scored(1.645 * np.tile(WILD, 3)), "constant": scored(3.5)}
    ).set_index("model")
    following, constant = table.loc["following"], table.loc["constant"]
    assert following["nominal"] == 0.9
    assert following["coverage"] == pytest.approx(constant["coverage"], abs=0.05)
    assert following["interval_score"] < constant["interval_score"]
    assert following["block_coverage_p05"] > constant["block_coverage_p05"]
    assert constant["block_coverage_p95"] == 1.0
    assert constant["difference"] < 0
    assert constant["p_value"] < 0.05
    assert np.isnan(following["p_value"])
    assert constant["width"] == pytest.approx(0.07)


def test_blocks_need_their_sessions() -> None:
    few = scored(2.0).head(2 * (BLOCK_SESSIONS - 1))
    table = interval_table({"model": few})
    assert table[["block_coverage_p05", "block_coverage_p95"]].isna().all(axis=None)


def test_block_quantiles_are_those_of_the_coverage_of_months() -> None:
    rows = scored(2.0)
    months = rows["covered"].to_numpy(float).reshape(6, 2 * BLOCK_SESSIONS).mean(axis=1)
    (row,) = interval_table({"model": rows}).itertuples()
    assert row.block_coverage_p05 == pytest.approx(np.quantile(months, 0.05))
    assert row.block_coverage_p95 == pytest.approx(np.quantile(months, 0.95))


def test_ticker_coverage_is_the_mean_of_each_ticker() -> None:
    rows = scored(2.0)
    found = ticker_coverage({"second": rows, "first": rows.query("ticker == 'A'")})
    assert list(found[["model", "ticker"]].itertuples(index=False, name=None)) == [
        ("second", "A"),
        ("second", "B"),
        ("first", "A"),
    ]
    means = rows.groupby("ticker")["covered"].mean()
    assert found["coverage"].tolist() == [means["A"], means["B"], means["A"]]
