"""Summaries for people: the status, the forecast tables and the description in the report."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from io import StringIO

import pandas as pd
from rich.console import Console
from sqlalchemy import Engine

from stock_assets.cli.datasets import _candidate
from stock_assets.cli.loop import forecast_tables
from stock_assets.cli.platform import Platform
from stock_assets.cli.report import describe, newest_forecasts
from stock_assets.cli.status import _late, _late_tickers, _production, _recent_scores, _scores
from stock_assets.evaluation.metrics import score_rows
from stock_assets.evaluation.production_rule import ModelVersion, persistence
from stock_assets.evaluation.scoring import score_due
from stock_assets.storage.forecasts import save_performance
from stock_assets_tests.storage.examples import (
    DATASET,
    DAYS,
    PROMOTION,
    bars,
    forecasts,
    store_bars,
)

SECOND = ModelVersion(
    version=2, mlflow_run_id="run", dataset_run_id=DATASET, as_of=DAYS[0], digest="digest"
)


def scored(days: list[date], version: int) -> pd.DataFrame:
    made = forecasts(days, version=version).assign(issued="backfilled")
    return score_due(made, bars())


def test_status_scores_only_the_production_model(platform: Platform, engine: Engine) -> None:
    here = replace(platform)
    here.__dict__["engine"] = engine
    assert _recent_scores(here, SECOND) is None
    for version, days in ((1, DAYS[:4]), (2, DAYS[1:3])):
        rows = scored(days, version)
        earlier = scored(days, 3 - version) if version == 2 else rows.iloc[:0]
        save_performance(engine, pd.concat([earlier, rows]), days, "run")
    shown = _recent_scores(here, SECOND)
    assert shown is not None
    assert shown["model"]["forecasts"] == len(scored(DAYS[1:3], 2))
    assert _recent_scores(here, persistence(digest="d" * 64)) is None
    assert _recent_scores(here, replace(SECOND, dataset_run_id="20130107_120000")) is None


def test_status_names_late_tickers_and_their_last_session(
    platform: Platform, engine: Engine
) -> None:
    here = replace(platform)
    here.__dict__["engine"] = engine
    assert _late_tickers(here) == {}
    on_time = [name for name in platform.params.prices.tickers if name not in ("IBM", "MSFT")]
    store_bars(engine, bars(on_time, DAYS))
    store_bars(engine, bars(["IBM"], DAYS[:-2]))
    late = _late_tickers(here)
    assert late == {"IBM": DAYS[-3], "MSFT": None}
    shown = _late({"late_tickers": late})
    assert f"IBM ({DAYS[-3]})" in shown
    assert "MSFT (no bar yet)" in shown


def test_an_undefined_score_is_shown_as_undefined() -> None:
    metrics = {"mape": 0.0, "relative_mae": None, "forecasts": 2}
    scores: dict[str, object] = {"model": metrics, "persistence": {**metrics, "mape": None}}
    scores |= {"first_session": "A", "last_session": "B", "backfilled": 0}
    assert _scores({"performance": scores}) == (
        "MAPE 0.00%, persistence undefined (relative MAE undefined), 2 forecasts, A to B"
    )
    assert _scores({"performance": scores | {"backfilled": 2}}).endswith("on backfilled forecasts")


def test_each_horizon_shows_its_newest_version() -> None:
    near = scored(DAYS[:3], 1)
    rows = pd.concat([near.assign(horizon=2), near, near.assign(horizon=2, model_version=2)])
    newest = newest_forecasts(rows)
    assert newest["horizon"].tolist() == [1, 2] * len(near)
    assert newest["model_version"].tolist() == [1, 2] * len(near)


def test_forecast_tables_has_one_table_per_target_session() -> None:
    near = forecasts(DAYS[:1]).assign(issued="backfilled")
    far = near.assign(
        horizon=2, target_session=pd.Timestamp(DAYS[2]), predicted_price=99.0, issued="live"
    )
    console = Console(width=100, record=True, quiet=False, file=StringIO())
    console.print(forecast_tables(pd.concat([near, far])))
    shown = console.export_text()
    first, second = shown.split(f"Forecast for {DAYS[2]:%A %Y-%m-%d}")
    assert f"Forecast for {DAYS[1]:%A %Y-%m-%d}, backfilled" in first
    assert second.startswith(", issued live")
    assert first.count("101.50") == second.count("99.00") == 2


def test_describe_names_the_model_that_forecast() -> None:
    rows = pd.concat([scored(DAYS[1:3], 2), scored(DAYS[:3], 1)])
    newest = newest_forecasts(rows)
    assert len(newest) == len(scored(DAYS[:3], 1))
    assert set(newest.loc[newest["session"] > pd.Timestamp(DAYS[1]), "model_version"]) == {2}
    shown = describe(newest, "Forecaster", SECOND, PROMOTION)
    assert shown.count("backfilled") == 1
    assert "version 2 of Forecaster" in shown
    assert f"{DATASET}, as of {DAYS[0]}" in shown
    assert PROMOTION.reason in " ".join(shown.split())
    assert "Chosen by hand" in describe(newest, "Forecaster", SECOND, None)


def test_describe_forecasts_of_no_change_has_no_direction() -> None:
    rows = scored(DAYS[:3], 1)
    idle = score_rows(rows.assign(predicted=rows["persistence"]))
    assert "Direction           no change was forecast\n" in describe(
        idle, "Forecaster", SECOND, PROMOTION
    )


def test_a_refit_is_named_as_one() -> None:
    refit = replace(SECOND, version=4, refit_of=3)
    change = {"in_force_from": datetime(2013, 1, 2, tzinfo=UTC), "why": "removed"}
    found = {"production_change": None, "registry_problem": None}
    shown_as = {
        model: _production(found | {"production": asdict(model), "production_change": change})
        for model in (refit, SECOND, persistence())
    }
    assert shown_as[refit].startswith(f"version 4, refit of 3, dataset {DATASET}, since 2013-01-02")
    assert shown_as[SECOND].startswith(f"version 2, dataset {DATASET}, since 2013-01-02")
    assert shown_as[persistence()].startswith("persistence (version 0) since 2013-01-02")
    assert "stock-assets model promote" in shown_as[persistence()]
    first = found | {"production": asdict(persistence())}
    assert _production(first).startswith("persistence (version 0), no model yet")
    assert _production(first | {"registry_problem": "lost"}) == "lost"
    labels = {3: "2012-09-27", 4: "2012-12-31"}
    made = {"candidate_versions": [3], "refits": {4: 3}, "newest_labels": labels}
    assert _candidate(made) == (
        "version 4, refit of 3, newest label 2012-12-31; version 3, newest label 2012-09-27"
    )
    shown = describe(scored(DAYS[1:3], 4), "Forecaster", refit, PROMOTION)
    assert "version 4 of Forecaster, refit of version 3" in shown
