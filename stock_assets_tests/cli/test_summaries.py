"""What the status and the demo's report say about scores, and about which model."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date
from io import StringIO

import pandas as pd
from rich.console import Console
from sqlalchemy import Engine

from stock_assets.cli.datasets import _candidate
from stock_assets.cli.loop import forecast_tables
from stock_assets.cli.platform import Platform
from stock_assets.cli.report import describe, newest_forecasts
from stock_assets.cli.status import _production, _recent_scores, _scores
from stock_assets.evaluation.champion import ModelVersion
from stock_assets.evaluation.scoring import score_due
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
    metrics = {"mape": 0.0, "relative_mae": None, "forecasts": 2}
    scores = {"model": metrics, "persistence": {**metrics, "mape": None}}
    told = _scores({"performance": scores | {"first_session": "A", "last_session": "B"}})
    assert told == (
        "MAPE 0.00% beside persistence's undefined (relative MAE undefined), 2 forecasts, A to B"
    )


def test_of_each_horizon_the_newest_version_speaks() -> None:
    near = scored(DAYS[:3], 1)
    rows = pd.concat([near.assign(horizon=2), near, near.assign(horizon=2, model_version=2)])
    newest = newest_forecasts(rows)
    assert newest["horizon"].tolist() == [1, 2] * len(near)
    assert newest["model_version"].tolist() == [1, 2] * len(near)


def test_forecasts_are_told_in_a_table_per_target_session() -> None:
    near = forecasts(DAYS[:1])
    far = near.assign(horizon=2, target_session=pd.Timestamp(DAYS[2]), predicted_price=99.0)
    console = Console(width=100, record=True, quiet=False, file=StringIO())
    console.print(forecast_tables(pd.concat([near, far])))
    told = console.export_text()
    first, second = told.split(f"Forecast for {DAYS[2]:%A %Y-%m-%d}")
    assert f"Forecast for {DAYS[1]:%A %Y-%m-%d}" in first
    assert first.count("101.50") == second.count("99.00") == 2


def test_the_report_tells_of_the_model_that_forecast() -> None:
    rows = pd.concat([scored(DAYS[1:3], 2), scored(DAYS[:3], 1)])
    newest = newest_forecasts(rows)
    assert len(newest) == len(scored(DAYS[:3], 1))
    assert set(newest.loc[newest["session"] > pd.Timestamp(DAYS[1]), "model_version"]) == {2}
    told = describe(newest, "Forecaster", SECOND, PROMOTION)
    assert "version 2 of Forecaster" in told
    assert f"dataset, as of {DAYS[0]}" in told
    assert PROMOTION.reason in " ".join(told.split())
    assert "Chosen by hand" in describe(newest, "Forecaster", SECOND, None)


def test_a_refit_is_named_as_one() -> None:
    refit = replace(SECOND, version=4, refit_of=3)
    assert _production({"production": asdict(refit)}) == "version 4, refit of 3, dataset dataset"
    assert _production({"production": asdict(SECOND)}) == "version 2, dataset dataset"
    made = {"candidate_versions": [3], "refits": {4: 3}}
    assert _candidate(made) == "version 4, refit of 3; version 3"
    told = describe(scored(DAYS[1:3], 4), "Forecaster", refit, PROMOTION)
    assert "version 4 of Forecaster, refit of version 3" in told
