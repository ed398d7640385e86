"""One model, one dataset, and the lineage of one number."""

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
from stock_assets.storage.forecasts import record_refit, save_predictions, save_promotion
from stock_assets.storage.prices import read_bars
from stock_assets_tests.conftest import DATASET, SECOND_DATASET, Loop
from stock_assets_tests.service.api.asking import ask, refuse, require_row, rows, walk
from stock_assets_tests.service.conftest import (
    begin_own,
    begin_serve,
    environment_without_settings,
)
from stock_assets_tests.storage.examples import DAYS, PANEL, PROMOTION, forecasts

pytestmark = pytest.mark.slow

NUMBER = "/lineage/forecast/2013-01-15/AAPL"


def test_a_model_has_its_decision_and_its_hyperparameters(client: httpx.Client, loop: Loop) -> None:
    told = ask(client, "/models/1")
    listed = next(item for item in walk(client, "/models") if item["model_version"] == 1)
    assert {name: told[name] for name in listed} == listed
    assert told["decision"] in walk(client, "/promotions", dataset_run_id=DATASET)
    (tuned,) = rows(
        loop.store.engine,
        "SELECT best_params, best_value, jsonb_array_length(trials) AS trials "
        "FROM optimization_results WHERE dataset_run_id = :id",
        id=DATASET,
    )
    assert told["tuning"] == tuned
    (scored,) = rows(
        loop.store.engine,
        "SELECT count(*) AS forecasts, min(session) AS first_session, "
        "max(session) AS last_session FROM model_performance_log WHERE model_version = 1",
    )
    require_row(told["scored"], scored)
    assert scored["forecasts"] > 0


def test_a_dataset_is_all_that_is_stored_of_it(client: httpx.Client, loop: Loop) -> None:
    engine = loop.store.engine
    told = ask(client, f"/datasets/{DATASET}")
    (row,) = rows(
        engine, "SELECT * FROM processed_feature_data WHERE dataset_run_id = :id", id=DATASET
    )
    require_row(told, row, "scalers", "segments", "tuning", "models")
    assert told["scalers"] == scaler_summary(engine, DATASET)
    assert [s["set_name"] for s in told["segments"]] == ["train", "validation", "test"]
    for segment, held in zip(told["segments"], segments_of(engine, DATASET), strict=True):
        require_row(segment, vars(held))
    assert [model["model_version"] for model in told["models"]] == [1]


def test_a_second_dataset_has_the_second_model(
    client: httpx.Client, second_retraining: str
) -> None:
    told = ask(client, f"/datasets/{second_retraining}")
    assert [model["model_version"] for model in told["models"]] == [2]
    assert ask(client, "/models/2")["decision"]["dataset_run_id"] == SECOND_DATASET


@pytest.mark.parametrize("path", ["/models/99", "/datasets/19990101_000000"])
def test_what_does_not_exist_is_not_found(client: httpx.Client, path: str) -> None:
    assert path.rpartition("/")[2] in refuse(client, path, 404)["detail"]


@pytest.mark.parametrize("path", ["/models/0", "/models/one", "/datasets/newest", "/datasets/1"])
def test_what_cannot_exist_is_refused(client: httpx.Client, path: str) -> None:
    refuse(client, path, 422)


@pytest.mark.parametrize("path", ["/models/1", f"/datasets/{DATASET}", NUMBER])
def test_nothing_is_asked_for_that_is_not_known(client: httpx.Client, path: str) -> None:
    (wrong,) = refuse(client, path, 422, verbose="true")["errors"]
    assert wrong["where"] == "query.verbose"


def test_a_number_leads_to_its_model_dataset_and_outcome(client: httpx.Client, loop: Loop) -> None:
    told = ask(client, NUMBER)
    bounds = {"as_of_from": "2013-01-15", "as_of_to": "2013-01-15"}
    (forecast,) = walk(client, "/forecasts", ticker="AAPL", latest="false", **bounds)
    assert told["forecast"] == forecast
    detail = ask(client, "/models/1")
    assert told["model"] == {name: detail[name] for name in told["model"]}
    assert told["decision"] == detail["decision"]
    assert told["dataset"] == ask(client, f"/datasets/{DATASET}")
    (scored,) = rows(
        loop.store.engine,
        "SELECT *, direction_hit = 1 AS direction_hit, covered = 1 AS covered "
        "FROM model_performance_log "
        "WHERE ticker = 'AAPL' AND as_of_session = '2013-01-15'",
    )
    require_row(told["outcome"], scored)


def test_a_number_leads_to_the_sessions_that_its_model_learned_from(client: httpx.Client) -> None:
    told = ask(client, NUMBER)
    window = told["dataset"]["params"]["dataset"]["window"]
    train = told["dataset"]["segments"][0]
    first, last = (
        date.fromisoformat(told["learned"][n]) for n in ("first_session", "last_session")
    )
    sessions = calendar.sessions(first, last)
    assert last.isoformat() == train["last_session"]
    assert len(sessions) - window + 1 == told["learned"]["windows"]
    assert told["learned"]["windows"] == train["last_position"] - train["first_position"] + 1
    assert sessions[window - 1].isoformat() == train["first_session"]


def test_a_number_leads_to_the_rows_in_its_window(client: httpx.Client, loop: Loop) -> None:
    told, engine = ask(client, NUMBER), loop.store.engine
    window = told["window"]
    length = told["dataset"]["params"]["dataset"]["window"]
    last = date(2013, 1, 15)
    days = calendar.sessions(calendar.previous_session(last, length - 1), last)
    assert (window["sessions"], window["first_session"]) == (length, days[0].isoformat())
    assert window["last_session"] == last.isoformat()
    tickers = load_panel(engine, DATASET).tickers
    for part, names in (("own", ["AAPL"]), ("everyone", tickers)):
        bars = read_bars(engine, days[0], last, names)
        assert window[part] == {
            "tickers": len(names),
            "rows": len(bars),
            "digest": content_digest(bars),
            "stored_later": 0,
            "revised_later": 0,
        }
    assert window["missing_sessions"] == []
    assert sum(part["rows"] for part in window["fetched"]) == length
    assert {part["dagster_run_id"] for part in window["fetched"]} == {loop.ingest.run_id}
    assert window["revisions"] == []
    assert told["forecast"]["dagster_run_id"] == loop.forecasts.run_id


def test_the_last_close_is_the_last_row_of_the_window(client: httpx.Client) -> None:
    told = ask(client, NUMBER)
    (bar,) = walk(
        client, "/prices/AAPL", basis="raw", session_from="2013-01-15", session_to="2013-01-15"
    )
    forecast = told["forecast"]
    assert bar["close"] == forecast["last_close"]
    assert forecast["predicted_price"] == pytest.approx(
        bar["close"] * math.exp(forecast["predicted_return"])
    )


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/lineage/forecast/2013-01-13/AAPL", {}),
        ("/lineage/forecast/2013-01-15/NONE", {}),
        (NUMBER, {"horizon": 9}),
        (NUMBER, {"model_version": 9}),
    ],
)
def test_a_forecast_that_was_not_made_is_not_found(
    client: httpx.Client, path: str, asked: dict[str, int]
) -> None:
    refuse(client, path, 404, **asked)


def test_no_link_is_shown_where_no_address_is_known(client: httpx.Client) -> None:
    assert set(ask(client, NUMBER)["links"].values()) == {None}
    assert set(ask(client, "/models/1")["links"].values()) == {None}


def test_links_lead_to_dagster_and_mlflow(loop: Loop, tmp_path: Path) -> None:
    uis = {
        "STOCK_ASSETS_DAGSTER_UI": "http://127.0.0.1:3000",
        "STOCK_ASSETS_MLFLOW_UI": "http://127.0.0.1:5000",
    }
    with begin_serve(environment_without_settings(), tmp_path, **uis) as service:
        told = ask(service.client(), NUMBER)
        model = ask(service.client(), "/models/1")
    forecast, decision = told["forecast"], told["decision"]
    at = "http://127.0.0.1:3000"
    assert told["links"] == {
        "forecast_run": f"{at}/runs/{forecast['dagster_run_id']}",
        "forecast_partition": f"{at}/assets/predictions?view=partitions&partition=2013-01-15",
        "prices_partition": f"{at}/assets/raw_prices?view=partitions&partition=2013-01-15",
        "dataset_partition": f"{at}/assets/processed_features?view=partitions&partition={DATASET}",
        "decision_run": f"{at}/runs/{decision['dagster_run_id']}",
        "mlflow_run": f"http://127.0.0.1:5000/#/runs/{forecast['mlflow_run_id']}",
        "mlflow_model": "http://127.0.0.1:5000/#/models/StockPricePredictor/versions/1",
    }
    assert model["links"] == {
        "mlflow_model": told["links"]["mlflow_model"],
        "mlflow_run": told["links"]["mlflow_run"],
        "dagster_run": told["links"]["decision_run"],
    }
    (fetched,) = told["window"]["fetched"]
    assert fetched["dagster_run_url"] == f"{at}/runs/{fetched['dagster_run_id']}"


def test_a_refit_learned_from_every_segment(engine: Engine, tmp_path: Path) -> None:
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
    with begin_own(engine, tmp_path) as service, service.client() as client:
        told = {version: ask(client, number, model_version=version) for version in (1, 2)}
    assert told[2]["model"]["refit_of"] == 1
    assert told[2]["decision"] == told[1]["decision"]
    assert told[1]["learned"] == {
        "first_session": days[0].isoformat(),
        "last_session": days[4].isoformat(),
        "windows": 3,
    }
    assert told[2]["learned"] == told[1]["learned"] | {
        "last_session": days[14].isoformat(),
        "windows": 13,
    }
    assert told[1]["window"]["missing_sessions"] == [day.isoformat() for day in DAYS[2:5]]
    assert told[1]["window"]["everyone"]["rows"] == 0
