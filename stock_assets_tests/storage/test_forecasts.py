"""Stored forecasts and scores, and the forecast files."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, select, text

from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.storage.database import Merge
from stock_assets.storage.forecasts import (
    forecasts_due,
    last_predicted_session,
    predictions_as_of,
    read_performance,
    recent_performance,
    save_performance,
    save_predictions,
    write_forecast_files,
)
from stock_assets.storage.tables import model_performance_log, predictions
from stock_assets_tests.storage.examples import (
    DATASET,
    DAYS,
    bars,
    forecasts,
)


def columns_of(engine: Engine, query: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def scored(days: list[date], version: int = 1) -> pd.DataFrame:
    return score_due(forecasts(days, version=version), bars())


def test_forecasts_due_are_selected_by_target_session(engine: Engine) -> None:
    made = forecasts(DAYS[:3])
    assert save_predictions(engine, made, DAYS[:3], 1) == Merge(inserted=6)
    due = forecasts_due(engine, DAYS[1:3])
    assert due["as_of_session"].dt.date.tolist() == [DAYS[0]] * 2 + [DAYS[1]] * 2
    expected = made[made["as_of_session"] < pd.Timestamp(DAYS[2])]
    pd.testing.assert_frame_equal(due[made.columns], expected, check_exact=True)
    assert forecasts_due(engine, DAYS[10:12]).empty
    assert forecasts_due(engine, []).empty


def test_saving_again_changes_nothing(engine: Engine) -> None:
    save_predictions(engine, forecasts(DAYS[:3]), DAYS[:3], 1)
    before = columns_of(engine, "SELECT ticker, as_of_session, predicted_at FROM predictions")
    again = forecasts(DAYS[:3]).assign(dagster_run_id="another")
    assert save_predictions(engine, again, DAYS[:3], 1) == Merge()
    assert columns_of(engine, "SELECT ticker, as_of_session, predicted_at FROM predictions") == (
        before
    )


def test_only_forecasts_of_the_same_sessions_and_version_are_replaced(engine: Engine) -> None:
    save_predictions(engine, forecasts(DAYS[:3], "ABC"), DAYS[:3], 1)
    save_predictions(engine, forecasts(DAYS[:3], "ABC", version=2), DAYS[:3], 2)
    fewer = forecasts(DAYS[1:2], "A")
    assert save_predictions(engine, fewer, DAYS[1:2], 1) == Merge(updated=1, deleted=2)
    left = columns_of(
        engine,
        "SELECT model_version, as_of_session, string_agg(ticker, '' ORDER BY ticker) "
        "FROM predictions GROUP BY 1, 2 ORDER BY 1, 2",
    )
    assert [row[2] for row in left] == ["ABC", "A", "ABC", "ABC", "ABC", "ABC"]


def test_saving_no_forecasts_empties_the_sessions(engine: Engine) -> None:
    save_predictions(engine, forecasts(DAYS[:2]), DAYS[:2], 1)
    none = forecasts(DAYS[:1]).iloc[:0]
    assert save_predictions(engine, none, DAYS[:1], 1) == Merge(deleted=2)
    assert last_predicted_session(engine) == DAYS[1]


def test_forecasts_of_other_tickers_stay(engine: Engine) -> None:
    save_predictions(engine, forecasts(DAYS[:1], "ABC"), DAYS[:1], 1)
    fewer = forecasts(DAYS[:1], "A")
    assert save_predictions(engine, fewer, DAYS[:1], 1, ["A", "B"]) == Merge(deleted=1)
    assert set(predictions_as_of(engine, DAYS[:1])["ticker"]) == {"A", "C"}


def test_the_version_that_forecast_last_counts(engine: Engine) -> None:
    for version, days in ((9, DAYS[:2]), (10, DAYS[1:3])):
        save_predictions(engine, forecasts(days, version=version), days, version)
    found = predictions_as_of(engine, DAYS[:3])
    assert found["model_version"].tolist() == [9, 9, 10, 10, 10, 10]
    assert found["ticker"].tolist() == list("ABABAB")
    assert found.index.tolist() == list(range(6))


def test_all_horizons_of_a_ticker_are_of_one_model(engine: Engine) -> None:
    """A one-session model follows a three-session one, whose longer forecasts no longer count."""
    near = forecasts(DAYS[:1])
    far = pd.concat([near.assign(horizon=horizon) for horizon in (1, 2, 3)], ignore_index=True)
    save_predictions(engine, far, DAYS[:1], 1)
    save_predictions(engine, near[near["ticker"] == "A"].assign(model_version=2), DAYS[:1], 2)
    found = predictions_as_of(engine, DAYS[:1])
    rows = list(found[["ticker", "horizon", "model_version"]].itertuples(index=False, name=None))
    assert rows == [("A", 1, 2), ("B", 1, 1), ("B", 2, 1), ("B", 3, 1)]
    save_predictions(engine, far, DAYS[:1], 1)
    again = predictions_as_of(engine, DAYS[:1])
    assert again["horizon"].tolist() == [1, 2, 3] * 2
    assert set(again["model_version"]) == {1}


def test_after_a_rollback_the_older_version_counts_again(engine: Engine) -> None:
    for version in (1, 2, 1):
        save_predictions(engine, forecasts(DAYS[:1], version=version), DAYS[:1], version)
    assert set(predictions_as_of(engine, DAYS[:1])["model_version"]) == {1}
    assert set(columns_of(engine, "SELECT model_version FROM latest_predictions")) == {(1,)}
    assert set(columns_of(engine, "SELECT model_version FROM predictions")) == {(1,), (2,)}


def test_latest_predictions_has_the_newest_forecast_of_each_ticker(engine: Engine) -> None:
    save_predictions(engine, forecasts(DAYS[:3], "ABC"), DAYS[:3], 1)
    save_predictions(engine, forecasts(DAYS[3:4], "A"), DAYS[3:4], 1)
    save_predictions(engine, forecasts(DAYS[2:3], "B", version=2), DAYS[2:3], 2)
    newest = columns_of(
        engine, "SELECT ticker, as_of_session, model_version FROM latest_predictions ORDER BY 1"
    )
    assert newest == [("A", DAYS[3], 1), ("B", DAYS[2], 2), ("C", DAYS[2], 1)]


def test_last_predicted_session_is_none_at_first(engine: Engine) -> None:
    assert last_predicted_session(engine) is None
    assert predictions_as_of(engine, DAYS).empty


def test_read_performance_returns_the_saved_bits(engine: Engine) -> None:
    rows, due = scored(DAYS[:5]), DAYS[1:6]
    assert save_performance(engine, rows, due, "run 1") == Merge(inserted=10)
    before = columns_of(engine, "SELECT evaluated_at, dagster_run_id FROM model_performance_log")
    assert save_performance(engine, rows, due, "run 2") == Merge()
    assert columns_of(engine, "SELECT evaluated_at, dagster_run_id FROM model_performance_log") == (
        before
    )
    back = read_performance(engine, due[0], due[-1])
    shared = [name for name in rows.columns if name in back.columns and name != "dagster_run_id"]
    pd.testing.assert_frame_equal(back[shared], rows[shared], check_exact=True, check_dtype=False)
    assert {"actual", "persistence", "direction_hit", "covered"} <= set(shared)


def test_an_undefined_direction_is_null(engine: Engine) -> None:
    rows = scored(DAYS[:1]).assign(direction_hit=[np.nan, 1.0])
    save_performance(engine, rows, DAYS[1:2], "run")
    query = select(model_performance_log.c.direction_hit).order_by(model_performance_log.c.ticker)
    with engine.connect() as connection:
        assert connection.scalars(query).all() == [None, 1.0]


def test_a_score_without_its_forecast_is_deleted(engine: Engine) -> None:
    save_performance(engine, scored(DAYS[:3]), DAYS[1:4], "run")
    none = score_due(forecasts_due(engine, DAYS[2:3]), bars())
    assert none.empty
    assert save_performance(engine, none, DAYS[2:3], "run") == Merge(deleted=2)
    left = read_performance(engine, DAYS[0], DAYS[-1])["session"].dt.date.unique().tolist()
    assert left == [DAYS[1], DAYS[3]]


def test_recent_scores_are_of_one_version_and_its_newest_sessions(engine: Engine) -> None:
    save_performance(engine, scored(DAYS[:6]), DAYS[1:7], "run")
    save_performance(
        engine,
        pd.concat([scored(DAYS[7:9]), scored(DAYS[7:9], version=2)]),
        DAYS[8:10],
        "run",
    )
    recent = recent_performance(engine, 3, (DATASET, 1))
    assert recent["session"].dt.date.unique().tolist() == [DAYS[6], DAYS[8], DAYS[9]]
    assert set(recent["model_version"]) == {1}
    assert len(recent_performance(engine, 20, (DATASET, 2))) == 4
    assert recent_performance(engine, 20, (DATASET, 3)).empty


def test_a_file_per_target_session_and_one_for_the_newest(tmp_path: Path) -> None:
    folder = tmp_path / "forecasts"
    write_forecast_files(folder, forecasts(DAYS[:2], price=101.25))
    names = sorted(path.name for path in (folder / "historical").iterdir())
    assert names == [f"{DAYS[1]}.json", f"{DAYS[2]}.json"]
    latest = json.loads((folder / "latest_predictions.json").read_text())
    assert latest == {
        "date": DAYS[2].isoformat(),
        "predictions": {"A": 101.25, "B": 101.25},
        "model_mlflow_run_id": "abc",
    }


def test_forecasts_of_the_past_do_not_become_the_latest(tmp_path: Path) -> None:
    write_forecast_files(tmp_path, forecasts(DAYS[5:6], price=1.5))
    write_forecast_files(tmp_path, forecasts(DAYS[:2], price=2.5))
    latest = tmp_path / "latest_predictions.json"
    assert json.loads(latest.read_text())["date"] == DAYS[6].isoformat()
    write_forecast_files(tmp_path, forecasts(DAYS[5:6], price=3.5))
    assert json.loads(latest.read_text())["predictions"] == {"A": 3.5, "B": 3.5}


def test_files_have_the_forecasts_of_horizon_one(tmp_path: Path) -> None:
    near = forecasts(DAYS[:2], price=101.25)
    target = pd.to_datetime([calendar.next_session(day, 2) for day in DAYS[:2] for _ in "AB"])
    far = near.assign(horizon=2, target_session=target, predicted_price=99.0)
    write_forecast_files(tmp_path, pd.concat([near, far]))
    names = sorted(path.name for path in (tmp_path / "historical").iterdir())
    assert names == [f"{DAYS[1]}.json", f"{DAYS[2]}.json"]
    latest = json.loads((tmp_path / "latest_predictions.json").read_text())
    assert latest["predictions"] == {"A": 101.25, "B": 101.25}


def test_files_have_exact_prices(tmp_path: Path) -> None:
    write_forecast_files(tmp_path, forecasts(DAYS[:1], price=0.1 + 0.2))
    latest = json.loads((tmp_path / "latest_predictions.json").read_text())
    assert latest["predictions"]["A"] == 0.1 + 0.2


def test_files_are_replaced_atomically(tmp_path: Path) -> None:
    write_forecast_files(tmp_path, forecasts(DAYS[:1]))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_forecast_files(tmp_path, forecasts(DAYS[:1], price=float("nan")))
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_without_forecasts_no_file_is_written(tmp_path: Path) -> None:
    write_forecast_files(tmp_path, forecasts(DAYS[:1]).iloc[:0])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_key_of_a_forecast_is_session_ticker_horizon_and_version() -> None:
    keys = {
        table.name: [column.name for column in table.primary_key]
        for table in (predictions, model_performance_log)
    }
    assert keys == {
        "predictions": ["as_of_session", "ticker", "horizon", "model_version"],
        "model_performance_log": ["session", "ticker", "horizon", "model_version"],
    }
