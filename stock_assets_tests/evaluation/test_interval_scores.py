"""Interval scores: of equal coverage the narrower wins, and calm sessions do not hide wild ones."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from stock_assets.evaluation.interval_scores import (
    BLOCK_SESSIONS,
    interval_levels,
    interval_losses,
    interval_table,
)
from stock_assets.evaluation.metrics import score_rows
from stock_assets.evaluation.significance import diebold_mariano, newey_west

MONTHS = 12
SESSIONS = MONTHS * BLOCK_SESSIONS
WILD = np.repeat([1.0, 3.0], BLOCK_SESSIONS)


def scored(
    half_width: np.ndarray | float, coverages: Sequence[float] = (0.9,), split: float = 1.0
) -> pd.DataFrame:
    """Two tickers at 100 whose prices move by 1 or by 3 in alternating months.

    Intervals of lower coverages are half as wide. `split` divides prices before the target session.
    """
    days = pd.date_range("2013-01-01", periods=SESSIONS, freq="B")
    volatility = np.tile(WILD, MONTHS // 2)
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
            "coverage": coverages[-1],
            "intervals": [
                json.dumps(
                    [
                        {
                            "coverage": coverage,
                            "lower": split * (100.0 - width / 2**narrower),
                            "upper": split * (100.0 + width / 2**narrower),
                        }
                        for narrower, coverage in reversed([*enumerate(reversed(coverages))])
                    ]
                )
                for width in widths
            ],
        }
    )
    return score_rows(frame)


def test_loss_is_width_and_penalty_as_a_fraction_of_the_last_close() -> None:
    rows = scored(2.0).head(2).assign(actual=[101.0, 104.0])
    assert interval_losses(rows).tolist() == pytest.approx([0.04, 0.04 + 20 * 0.02])


def test_intervals_that_follow_volatility_beat_a_constant_width() -> None:
    table = interval_table(
        {"following": scored(1.645 * np.tile(WILD, MONTHS // 2)), "constant": scored(3.5)}
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
    months = rows["covered"].to_numpy(float).reshape(MONTHS, 2 * BLOCK_SESSIONS).mean(axis=1)
    (row,) = interval_table({"model": rows}).itertuples()
    assert row.block_coverage_p05 == pytest.approx(np.quantile(months, 0.05))
    assert row.block_coverage_p95 == pytest.approx(np.quantile(months, 0.95))


def test_ticker_coverage_is_the_mean_of_each_ticker() -> None:
    rows = scored(2.0)
    (found,) = interval_table({"model": rows})["tickers"]
    assert found == rows.groupby("ticker")["covered"].mean().to_dict()


def test_levels_are_in_the_shares_of_the_target_session() -> None:
    rows = scored(2.0, (0.5, 0.9), split=7.0)
    levels = interval_levels(rows)
    assert list(levels) == [0.9, 0.5]
    for coverage, width in ((0.9, 2.0), (0.5, 1.0)):
        own = levels[coverage]
        assert (own["coverage"] == coverage).all()
        np.testing.assert_allclose(own[["lower", "upper"]] - 100.0, [[-width, width]] * len(own))
        inside = (rows["actual"] - 100.0).abs() <= width
        assert own["covered"].tolist() == inside.astype(float).tolist()
    assert 0.2 < levels[0.5]["covered"].mean() < levels[0.9]["covered"].mean() - 0.1


def test_intervals_are_compared_at_each_coverage_that_both_have() -> None:
    table = interval_table(
        {
            "first": scored(2.0, (0.5, 0.9)),
            "same": scored(3.0, (0.5, 0.9)),
            "other": scored(3.0, (0.5, 0.8)),
        }
    )
    pairs = list(table[["model", "nominal"]].itertuples(index=False, name=None))
    assert pairs == [
        ("first", 0.9),
        ("same", 0.9),
        ("first", 0.5),
        ("same", 0.5),
        ("other", 0.5),
    ]
    shown = table.set_index(["model", "nominal"])["interval_score"]
    assert shown["first", 0.9] == interval_losses(scored(2.0)).mean()
    assert shown["first", 0.5] == pytest.approx(interval_losses(scored(1.0, (0.5,))).mean())
    assert interval_table({"first": scored(2.0), "other": scored(2.0, (0.8,))})[
        "model"
    ].tolist() == ["first"]


def test_the_p_value_allows_for_months_of_equal_sign() -> None:
    """The narrower intervals are better in calm months and worse in wild ones."""
    rows = {"narrow": scored(2.5), "wide": scored(3.0)}
    losses = [interval_losses(own).groupby(own["session"]).mean() for own in rows.values()]
    difference = (losses[0] - losses[1]).to_numpy()
    naive, robust = diebold_mariano(difference).p_value, interval_table(rows)["p_value"][1]
    assert naive is not None
    assert naive < 0.05 < robust
    assert robust == newey_west(difference, BLOCK_SESSIONS)[1]
