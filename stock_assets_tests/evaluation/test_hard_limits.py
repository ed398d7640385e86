"""Hard limits: which side passes, and the confidence interval of a proportion."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import pytest

from stock_assets.config import Monitoring, Thresholds
from stock_assets.evaluation.hard_limits import (
    ThresholdCheck,
    accuracy_half_width,
    check_newest,
    check_thresholds,
)
from stock_assets.evaluation.metrics import score_rows


def hits(shares: list[float], tickers: int = 10) -> pd.DataFrame:
    """Scored forecasts of sessions; in each a share of the tickers has the right sign."""
    days = pd.to_datetime(pd.bdate_range("2013-01-02", periods=len(shares)))
    right = np.concatenate([np.arange(tickers) < round(share * tickers) for share in shares])
    return score_rows(
        pd.DataFrame(
            {
                "session": days.repeat(tickers),
                "ticker": [f"T{number}" for number in range(tickers)] * len(shares),
                "horizon": 1,
                "persistence": 100.0,
                "actual": 101.0,
                "predicted": np.where(right, 100.1, 99.9),
                "lower": 90.0,
                "upper": 110.0,
            }
        )
    )


@pytest.mark.parametrize(
    ("metric", "kind", "value", "passed"),
    [
        ("mape", "at_most", 0.1, True),
        ("mape", "at_most", 0.11, False),
        ("direction_accuracy", "at_least", 0.1, True),
        ("direction_accuracy", "at_least", 0.09, False),
        ("mape", "at_most", None, False),
        ("direction_accuracy", "at_least", None, True),
    ],
)
def test_the_limit_itself_passes_and_an_undefined_error_does_not(
    metric: str, kind: Literal["at_most", "at_least"], value: float | None, passed: bool
) -> None:
    assert ThresholdCheck(metric, value, 0.1, kind).passed is passed


def test_only_limits_that_are_set_are_checked() -> None:
    scores = {"mape": 0.2, "relative_mae": 1.2, "direction_accuracy": 0.1}
    assert [one.metric for one in check_thresholds(scores, Thresholds())] == ["relative_mae"]
    every = Thresholds(mape_max=0.1, relative_mae_max=1.1, direction_accuracy_min=0.4)
    assert [one.passed for one in check_thresholds(scores, every)] == [False] * 3


def test_a_proportion_breaks_its_limit_only_if_its_interval_excludes_it() -> None:
    limit = 0.5
    steady, varied = hits([0.1, 0.2] * 5), hits([0.0, 0.9, 0.0, 0.7, 0.0, 0.8, 0.1, 0.9, 0.0, 0.1])
    for rows, passed in ((steady, False), (varied, True)):
        share = float(rows["direction_hit"].mean())
        assert share < limit
        check = ThresholdCheck(
            "direction_accuracy", share, limit, "at_least", accuracy_half_width(rows, limit)
        )
        assert check.passed is passed


def test_tickers_that_move_together_are_one_observation() -> None:
    together, apart = hits([0.0, 1.0] * 5), hits([0.5] * 10)
    assert accuracy_half_width(together, 0.5) > 2 * accuracy_half_width(apart, 0.5)


def test_a_few_sessions_that_all_go_wrong_exclude_little() -> None:
    """Their clustered error is zero."""
    few = hits([0.0] * 5, tickers=1)
    assert accuracy_half_width(few, 0.5) > 0.5
    assert accuracy_half_width(few.head(1), 0.5) == 1.0


def test_a_fair_model_seldom_breaks_a_limit_of_a_half() -> None:
    """Of 300 models of tickers that move together about 2.5% do, within three standard errors."""
    rng = np.random.default_rng(11)
    broken = 0
    for sessions in rng.integers(0, 2, (300, 20)):
        rows = hits([float(share) for share in sessions], tickers=2)
        share, reach = float(rows["direction_hit"].mean()), accuracy_half_width(rows, 0.5)
        broken += not ThresholdCheck("direction_accuracy", share, 0.5, "at_least", reach).passed
    assert broken <= 300 * 0.025 + 3 * (300 * 0.025) ** 0.5


def test_a_frozen_market_is_never_healthy() -> None:
    """Its relative MAE is undefined."""
    rows = hits([0.0] * 5)
    frozen = score_rows(rows.assign(actual=100.0, predicted=100.0))
    days = [day.date() for day in rows["session"].unique()]
    _, breaches = check_newest(frozen, days, Monitoring())
    assert breaches == (ThresholdCheck("relative_mae", None, 1.5, "at_most"),)
