"""Drift: stored with forecasts, and listed."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from stock_assets.storage.forecasts import predictions_as_of, save_predictions
from stock_assets.storage.serving.drift import DRIFT_ORDER, list_drift, newest_drift
from stock_assets_tests.storage.examples import (
    DAYS,
    MODEL,
    PRODUCTION,
    drift,
    forecasts,
    put_in_force,
)

EVERYTHING = 1000


def measure(engine: Engine, measured: pd.DataFrame, version: int = 1) -> None:
    days = sorted(set(measured["as_of_session"].dt.date))
    made = forecasts(days, version=version)
    save_predictions(engine, made, days, version, drift=measured)


def rows_of(engine: Engine) -> list[dict[str, object]]:
    return list_drift(engine, None, None, None, EVERYTHING)


def test_measuring_again_changes_no_row(engine: Engine) -> None:
    measured = drift(DAYS[:3], RSI=0.1 + 0.2, ATR=1 / 3)
    measure(engine, measured)
    before = rows_of(engine)
    measure(engine, measured.assign(dagster_run_id="another"))
    assert rows_of(engine) == before
    assert {row["psi"] for row in before} == {0.1 + 0.2, 1 / 3}


def test_features_a_version_no_longer_reads_are_removed(engine: Engine) -> None:
    measure(engine, drift(DAYS[:2], RSI=0.1, ATR=0.2))
    measure(engine, drift(DAYS[:1], version=2, ATR=0.3), version=2)
    measure(engine, drift(DAYS[:1], RSI=0.4))
    found = [
        (row["as_of_session"], row["model_version"], row["feature"]) for row in rows_of(engine)
    ]
    assert found == [
        (DAYS[1], 1, "ATR"),
        (DAYS[1], 1, "RSI"),
        (DAYS[0], 1, "RSI"),
        (DAYS[0], 2, "ATR"),
    ]


def test_forecasts_are_not_stored_without_their_drift(engine: Engine) -> None:
    undefined = drift(DAYS[:1], RSI=float("nan"))
    with pytest.raises(DBAPIError, match="psi"):
        measure(engine, undefined)
    assert predictions_as_of(engine, DAYS[:1]).empty


def test_drift_is_filtered_and_paged(engine: Engine) -> None:
    measure(engine, drift(DAYS[:3], RSI=0.1, ATR=0.2))
    measure(engine, drift(DAYS[1:2], version=2, RSI=0.3), version=2)
    whole = rows_of(engine)
    after = tuple(whole[2][name] for name in DRIFT_ORDER)
    assert list_drift(engine, None, None, None, EVERYTHING, after) == whole[3:]
    assert list_drift(engine, 2, None, None, EVERYTHING) == [
        row for row in whole if row["model_version"] == 2
    ]
    assert list_drift(engine, None, DAYS[1], DAYS[1], EVERYTHING) == whole[2:5]


def test_the_newest_is_of_the_version_in_production(engine: Engine) -> None:
    measure(engine, drift(DAYS[:2], RSI=0.1, ATR=0.2))
    measure(engine, drift(DAYS[:3], version=2, RSI=0.3), version=2)
    assert newest_drift(engine, MODEL) == []  # nothing is in production
    put_in_force(engine)
    found = newest_drift(engine, MODEL)
    assert [(row["as_of_session"], row["feature"]) for row in found] == [
        (DAYS[1], "ATR"),
        (DAYS[1], "RSI"),
    ]
    put_in_force(engine, replace(PRODUCTION, version=3))
    assert newest_drift(engine, MODEL) == []  # the new one has forecast nothing yet
