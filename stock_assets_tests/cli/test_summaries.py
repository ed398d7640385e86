"""What the status and the demo's report say about scores, and about which model."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pandas as pd
from sqlalchemy import Engine

from stock_assets.cli.platform import Platform
from stock_assets.cli.report import describe, newest_forecasts
from stock_assets.cli.status import _recent_scores, _scores
from stock_assets.evaluation.scoring import score_due
from stock_assets.registry import ModelVersion
from stock_assets.storage.forecasts import save_performance
from stock_assets_tests.storage.examples import DAYS, PROMOTION, bars, forecasts

SECOND = ModelVersion(
    version=2, mlflow_run_id="run", dataset_run_id="dataset", as_of=DAYS[0], digest="digest"
)


def scored(days: list[date], version: int) -> pd.DataFrame:
    return score_due(forecasts(days, version=version), bars())


def test_the_status_scores_the_production_model_alone(platform: Platform, engine: Engine) -> None:
    here = replace(platform)
    here.__dict__["engine"] = engine
    assert _recent_scores(here, SECOND) is None
    for version, days in ((1, DAYS[:4]), (2, DAYS[1:3])):
        rows = scored(days, version)
        earlier = scored(days, 3 - version) if version == 2 else rows.iloc[:0]
        save_performance(engine, pd.concat([earlier, rows]), days, "run")
    told = _recent_scores(here, SECOND)
    assert told is not None
    assert told["model"]["forecasts"] == len(scored(DAYS[1:3], 2))
    assert _recent_scores(here, None) is None


def test_an_undefined_score_is_called_so() -> None:
    metrics = {"mape": 0.0, "mase": None, "forecasts": 2}
    scores = {"model": metrics, "persistence": {**metrics, "mape": None}}
    told = _scores({"performance": scores | {"first_session": "A", "last_session": "B"}})
    assert told == (
        "MAPE 0.00% beside persistence's undefined (MASE undefined), 2 forecasts, A to B"
    )


def test_the_report_tells_of_the_model_that_forecast() -> None:
    rows = pd.concat([scored(DAYS[1:3], 2), scored(DAYS[:3], 1)])
    newest = newest_forecasts(rows)
    assert len(newest) == len(scored(DAYS[:3], 1))
    assert set(newest.loc[newest["session"] > pd.Timestamp(DAYS[1]), "model_version"]) == {2}
    told = describe(newest, "Forecaster", SECOND, PROMOTION)
    assert "version 2 of Forecaster" in told
    assert f"dataset, as of {DAYS[0]}" in told
    assert PROMOTION.reason in told
    assert "Chosen by hand" in describe(newest, "Forecaster", SECOND, None)
