"""A model, a dataset, and the lineage of a forecast."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from stock_assets.market import calendar
from stock_assets.market.bars import content_digest
from stock_assets.storage.datasets import (
    SegmentRecord,
    load_panel,
    save_panel,
    save_segments,
    scaler_summary,
    segments_of,
)
from stock_assets.storage.decisions import record_refit, save_promotion
from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.prices import read_bars
from stock_assets_tests.conftest import DATASET, SECOND_DATASET, Loop
from stock_assets_tests.service.api.client import assert_row, get, get_all, get_problem, select
from stock_assets_tests.service.conftest import open_client, serve_database
from stock_assets_tests.storage.examples import DAYS, PANEL, PROMOTION, forecasts

FORECAST = "/lineage/forecast/2013-01-15/AAPL"


def test_model_includes_its_decision_and_hyperparameters(client: httpx.Client, loop: Loop) -> None:
    found = get(client, "/models/1")
    listed = next(item for item in get_all(client, "/models") if item["model_version"] == 1)
    assert {name: found[name] for name in listed} == listed
    assert found["decision"] in get_all(client, "/promotions", dataset_run_id=DATASET)
    (tuned,) = select(
        loop.store.engine,
        "SELECT best_params, best_value, jsonb_array_length(trials) AS trials "
        "FROM optimization_results WHERE dataset_run_id = :id",
        id=DATASET,
    )
    assert found["tuning"] == tuned
    (scored,) = select(
        loop.store.engine,
        "SELECT count(*) AS forecasts, min(session) AS first_session, "
        "max(session) AS last_session FROM model_performance_log WHERE model_version = 1",
    )
    assert_row(found["scored"], scored)
    assert scored["forecasts"] > 0


def test_dataset_includes_everything_stored_about_it(client: httpx.Client, loop: Loop) -> None:
    engine = loop.store.engine
    found = get(client, f"/datasets/{DATASET}")
    (row,) = select(
        engine, "SELECT * FROM processed_feature_data WHERE dataset_run_id = :id", id=DATASET
    )
    assert_row(found, row, "scalers", "segments", "tuning", "models")
    assert found["scalers"] == scaler_summary(engine, DATASET)
    assert [s["set_name"] for s in found["segments"]] == ["train", "validation", "test"]
    for segment, stored in zip(found["segments"], segments_of(engine, DATASET), strict=True):
        assert_row(segment, vars(stored))
    assert [model["model_version"] for model in found["models"]] == [1]


def test_each_dataset_includes_its_own_model(client: httpx.Client, second_retraining: str) -> None:
    found = get(client, f"/datasets/{second_retraining}")
    assert [model["model_version"] for model in found["models"]] == [2]
    assert get(client, "/models/2")["decision"]["dataset_run_id"] == SECOND_DATASET


def test_version_0_is_persistence(client: httpx.Client) -> None:
    assert "version 0 is persistence" in get_problem(client, "/models/0", 404)["detail"]


@pytest.mark.parametrize("path", ["/models/99", "/datasets/19990101_000000", "/issues/99"])
def test_unknown_id_is_not_found(client: httpx.Client, path: str) -> None:
    assert path.rpartition("/")[2] in get_problem(client, path, 404)["detail"]


@pytest.mark.parametrize(
    "path", ["/models/-1", "/models/one", "/datasets/newest", "/datasets/1", "/issues/0"]
)
def test_malformed_id_is_rejected(client: httpx.Client, path: str) -> None:
    get_problem(client, path, 422)


@pytest.mark.parametrize("path", ["/models/1", f"/datasets/{DATASET}", FORECAST])
def test_unknown_parameter_is_rejected(client: httpx.Client, path: str) -> None:
    (invalid,) = get_problem(client, path, 422, verbose="true")["errors"]
    assert invalid["where"] == "query.verbose"


def test_lineage_includes_model_dataset_and_outcome(client: httpx.Client, loop: Loop) -> None:
    found = get(client, FORECAST)
    bounds = {"as_of_from": "2013-01-15", "as_of_to": "2013-01-15"}
    (forecast,) = get_all(client, "/forecasts", ticker="AAPL", latest="false", **bounds)
    assert found["forecast"] == forecast
    detail = get(client, "/models/1")
    assert found["model"] == {name: detail[name] for name in found["model"]}
    assert found["decision"] == detail["decision"]
    assert found["dataset"] == get(client, f"/datasets/{DATASET}")
    (scored,) = select(
        loop.store.engine,
        "SELECT *, direction_hit = 1 AS direction_hit, covered = 1 AS covered "
        "FROM model_performance_log "
        "WHERE ticker = 'AAPL' AND as_of_session = '2013-01-15'",
    )
    assert_row(found["outcome"], scored)


def test_an_issue_has_its_inputs(client: httpx.Client, loop: Loop) -> None:
    found = get(client, "/forecasts/2013-01-15/AAPL/issues", horizon=1, model_version=1)
    forecast = get(client, FORECAST)["forecast"]
    (issue,) = found["items"]
    assert {name: issue[name] for name in forecast} == forecast
    assert (issue["issued"], issue["withdrawn_at"]) == ("backfilled", None)
    detail = get(client, f"/issues/{issue['issue']}")
    (row,) = select(
        loop.store.engine, "SELECT * FROM forecast_issues WHERE issue = :id", id=issue["issue"]
    )
    assert_row(detail, row)
    assert {name: detail[name] for name in ("reason", "known_at", "params_digest", "device")} == {
        name: issue[name] for name in ("reason", "known_at", "params_digest", "device")
    }


def test_record_is_its_newest_link(client: httpx.Client, loop: Loop) -> None:
    (row,) = select(loop.store.engine, "SELECT * FROM record_links ORDER BY link DESC LIMIT 1")
    assert_row(get(client, "/record"), row)


def test_lineage_includes_the_training_windows(client: httpx.Client) -> None:
    found = get(client, FORECAST)
    window = found["dataset"]["params"]["dataset"]["window"]
    train = found["dataset"]["segments"][0]
    first, last = (
        date.fromisoformat(found["training"][n]) for n in ("first_session", "last_session")
    )
    sessions = calendar.sessions(first, last)
    assert last.isoformat() == train["last_session"]
    assert len(sessions) - window + 1 == found["training"]["windows"]
    assert found["training"]["windows"] == train["last_position"] - train["first_position"] + 1
    assert sessions[window - 1].isoformat() == train["first_session"]


def test_lineage_includes_the_bars_in_the_window(client: httpx.Client, loop: Loop) -> None:
    found, engine = get(client, FORECAST), loop.store.engine
    window = found["window"]
    length = found["dataset"]["params"]["dataset"]["window"]
    last = date(2013, 1, 15)
    days = calendar.sessions(calendar.previous_session(last, length - 1), last)
    assert (window["sessions"], window["first_session"]) == (length, days[0].isoformat())
    assert window["last_session"] == last.isoformat()
    tickers = load_panel(engine, DATASET).tickers
    for part, names in (("ticker_rows", ["AAPL"]), ("all_rows", tickers)):
        bars = read_bars(engine, days[0], last, names)
        assert window[part] == {
            "tickers": len(names),
            "rows": len(bars),
            "digest": content_digest(bars),
            "stored_later": 0,
            "revised_later": 0,
        }
    assert window["missing_sessions"] == []
    assert sum(part["rows"] for part in window["fetches"]) == length
    assert {part["dagster_run_id"] for part in window["fetches"]} == {loop.ingest.run_id}
    assert window["revisions"] == []
    assert found["forecast"]["dagster_run_id"] == loop.forecasts.run_id


def test_last_close_is_the_raw_close_of_the_as_of_session(client: httpx.Client) -> None:
    found = get(client, FORECAST)
    (bar,) = get_all(
        client, "/prices/AAPL", basis="raw", session_from="2013-01-15", session_to="2013-01-15"
    )
    forecast = found["forecast"]
    assert bar["close"] == forecast["last_close"]
    assert forecast["predicted_price"] == pytest.approx(
        bar["close"] * math.exp(forecast["predicted_return"])
    )


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/lineage/forecast/2013-01-13/AAPL", {}),
        ("/lineage/forecast/2013-01-15/NONE", {}),
        (FORECAST, {"horizon": 9}),
        (FORECAST, {"model_version": 9}),
    ],
)
def test_unknown_forecast_is_not_found(
    client: httpx.Client, path: str, query: dict[str, int]
) -> None:
    get_problem(client, path, 404, **query)


def test_links_are_null_without_an_address(client: httpx.Client) -> None:
    assert set(get(client, FORECAST)["links"].values()) == {None}
    assert set(get(client, "/models/1")["links"].values()) == {None}


def test_links_point_to_dagster_and_mlflow(loop: Loop, project: Path) -> None:
    uis = {"dagster_ui": "http://127.0.0.1:3000", "mlflow_ui": "http://127.0.0.1:5000"}
    with (
        serve_database(loop.store.engine, project, **uis) as address,
        open_client(address) as client,
    ):
        found, model = get(client, FORECAST), get(client, "/models/1")
    forecast, decision = found["forecast"], found["decision"]
    at = "http://127.0.0.1:3000"
    assert found["links"] == {
        "forecast_run": f"{at}/runs/{forecast['dagster_run_id']}",
        "forecast_partition": f"{at}/assets/predictions?view=partitions&partition=2013-01-15",
        "prices_partition": f"{at}/assets/raw_prices?view=partitions&partition=2013-01-15",
        "dataset_partition": f"{at}/assets/processed_features?view=partitions&partition={DATASET}",
        "decision_run": f"{at}/runs/{decision['dagster_run_id']}",
        "mlflow_run": f"http://127.0.0.1:5000/#/runs/{forecast['mlflow_run_id']}",
        "mlflow_model": "http://127.0.0.1:5000/#/models/StockPricePredictor/versions/1",
    }
    assert model["links"] == {
        "mlflow_model": found["links"]["mlflow_model"],
        "mlflow_run": found["links"]["mlflow_run"],
        "dagster_run": found["links"]["decision_run"],
    }
    (fetch,) = found["window"]["fetches"]
    assert fetch["dagster_run_url"] == f"{at}/runs/{fetch['dagster_run_id']}"


def test_refit_is_trained_on_all_segments(engine: Engine, project: Path) -> None:
    made = replace(PANEL, params={"dataset": {"window": 3}})
    save_panel(engine, made)
    spans = {"train": (2, 4), "validation": (8, 9), "test": (13, 14)}
    days = calendar.sessions(made.first_session, made.as_of_session)
    segments = [
        SegmentRecord(name, days[first], days[last], first, last, 3, "d" * 64)
        for name, (first, last) in spans.items()
    ]
    save_segments(engine, made.dataset_run_id, segments)
    save_promotion(engine, PROMOTION)
    record_refit(engine, PROMOTION, 2)
    for version in (1, 2):
        save_predictions(engine, forecasts(DAYS[4:5], "A", version), DAYS[4:5], version)
    number = f"/lineage/forecast/{DAYS[4]}/A"
    with serve_database(engine, project) as address, open_client(address) as client:
        found = {version: get(client, number, model_version=version) for version in (1, 2)}
    assert found[2]["model"]["refit_of"] == 1
    assert found[2]["decision"] == found[1]["decision"]
    assert found[1]["training"] == {
        "first_session": days[0].isoformat(),
        "last_session": days[4].isoformat(),
        "windows": 3,
    }
    assert found[2]["training"] == found[1]["training"] | {
        "last_session": days[14].isoformat(),
        "windows": 13,
    }
    assert found[1]["window"]["missing_sessions"] == [day.isoformat() for day in DAYS[2:5]]
    assert found[1]["window"]["all_rows"]["rows"] == 0
