"""Bars that broke a rule: stored with the reason, released when a valid one arrives."""

from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import Engine

from stock_assets.market.checks import bar_findings
from stock_assets.storage.prices import read_bars
from stock_assets.storage.quarantine import quarantine, read_quarantine
from stock_assets_tests.storage.examples import DAYS, bars, store_bars


@pytest.fixture
def broken() -> pd.DataFrame:
    """Bars of two days: one sound, one with two broken rules."""
    frame = bars("A", DAYS[:2])
    frame.loc[1, ["low", "volume"]] = [1e9, -5.0]
    return frame


def keep_apart(engine: Engine, frame: pd.DataFrame) -> int:
    return quarantine(engine, frame, bar_findings(frame), "csv", "run 1")


def test_a_bar_is_stored_once_per_broken_rule(engine: Engine, broken: pd.DataFrame) -> None:
    assert keep_apart(engine, broken) == 2
    kept = read_quarantine(engine)
    assert kept["rule"].tolist() == [
        "low is above open or close",
        "volume is negative or not finite",
    ]
    assert kept["session"].dt.date.tolist() == [DAYS[1]] * 2
    assert kept["low"].tolist() == [1e9] * 2
    assert kept["detail"][1] == "volume -5.0"
    assert read_bars(engine, DAYS[0], DAYS[-1]).empty


def test_storing_again_changes_nothing(engine: Engine, broken: pd.DataFrame) -> None:
    keep_apart(engine, broken)
    assert keep_apart(engine, broken) == 0
    assert len(read_quarantine(engine)) == 2


def test_without_findings_nothing_is_stored(engine: Engine) -> None:
    assert keep_apart(engine, bars()) == 0
    assert read_quarantine(engine).empty


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_stored_as_none(engine: Engine, value: float) -> None:
    frame = bars("A", DAYS[:1])
    frame.loc[0, "close"] = value
    keep_apart(engine, frame)
    (kept, *_) = read_quarantine(engine).query("rule.str.contains('finite')").itertuples()
    assert pd.isna(kept.close)
    assert f"close {value}" in kept.detail


def test_two_bars_of_one_session_are_both_stored(engine: Engine) -> None:
    twice = pd.concat([bars("A", DAYS[:1]), bars("A", DAYS[:1], 50.0)], ignore_index=True)
    keep_apart(engine, twice)
    assert sorted(read_quarantine(engine)["close"]) == [50.0, 100.1]


def test_a_valid_bar_releases_it_and_a_broken_one_restores_it(
    engine: Engine, broken: pd.DataFrame
) -> None:
    keep_apart(engine, broken)
    store_bars(engine, bars("A", DAYS[:1]))
    assert len(read_quarantine(engine)) == 2  # that was another day
    store_bars(engine, bars("A", DAYS[:2]))
    assert read_quarantine(engine).empty
    assert keep_apart(engine, broken) == 2
    assert len(read_quarantine(engine)) == 2
