"""A winner is fresh if it has learnt from labels up to a week before its as-of session."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pytest

from stock_assets.defs.promotion.checks import fresh
from stock_assets.evaluation.production_rule import ModelVersion

WINNER = ModelVersion(2, "run", "20121231_120000", date(2012, 12, 31), "d" * 64, refit_of=1)


@pytest.mark.parametrize(
    ("label", "age", "passed"),
    [
        (date(2012, 12, 31), 0, True),
        (date(2012, 12, 21), 5, True),
        (date(2012, 12, 20), 6, False),
        (date(2011, 12, 30), 250, False),
    ],
)
def test_a_winner_is_fresh_for_five_sessions(label: date, age: int, passed: bool) -> None:
    result = fresh(WINNER, label)
    assert (result.passed, result.metadata["age_sessions"].value) == (passed, age)
    assert result.severity is dg.AssetCheckSeverity.WARN
    assert str(label) in str(result.description)


def test_without_a_winner_the_check_passes() -> None:
    assert fresh(None, None).passed
