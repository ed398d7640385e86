"""Issues by the assets: inputs, repetition, revisions and scores."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sqlalchemy import Engine, select

from stock_assets.core.fingerprints import plain_digest
from stock_assets.defs.forecasting.assets import reason_of
from stock_assets.defs.resources import Store
from stock_assets.evaluation.change_detection import default_bounds
from stock_assets.evaluation.forecast_issues import Issued, Reason
from stock_assets.evaluation.retraining_rule import Production, decide_retraining
from stock_assets.market import calendar
from stock_assets.pipeline.forecasting import score_sessions
from stock_assets.registry import Registry
from stock_assets.storage.forecasts import (
    predictions_as_of,
    recent_performance,
    save_performance,
    save_predictions,
)
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.prices import read_bars
from stock_assets.storage.record import head
from stock_assets.storage.serving.forecast_issues import list_issues
from stock_assets.storage.tables import forecast_issues, record_links
from stock_assets_tests.conftest import Loop
from stock_assets_tests.defs.forecasting.test_forecasts import registered
from stock_assets_tests.defs.running import failure, materialize, metadata, params
from stock_assets_tests.models.bundles import bundle, sample_bars
from stock_assets_tests.storage.examples import DATASET, bars, forecasts, store_bars

DAY = date(2013, 1, 4)


@pytest.fixture
def registry(loop: Loop, tmp_path: Path) -> Registry:
    """A registry with a model in production."""
    return registered(bundle(), "Issued", tmp_path)


def forecast(store: Store, registry: Registry, last: str | None = None) -> dict[str, Any]:
    """Materialize the forecasts; return the metadata."""
    result = materialize(["predictions"], DAY.isoformat(), store, params(), registry, last=last)
    assert result.success, failure(result)
    return metadata(result, "predictions") | {"run": result.run_id}


def test_an_issue_names_its_prices_parameters_code_and_device(
    own_store: Store, registry: Registry
) -> None:
    store_bars(own_store.engine, sample_bars(), "sample")
    shown = forecast(own_store, registry)
    links = record_links.c
    with own_store.engine.connect() as connection:
        row = connection.execute(select(forecast_issues)).one()
        link = select(HISTORIES[forecast_issues].c.link).scalar_subquery()
        before = connection.scalar(select(links.written_at).where(links.link == link - 1))
    assert row.known_at == before
    assert shown["known_at"] == before.isoformat()
    assert row.params["prices"]["tickers"] == params().prices.tickers
    assert row.params_digest == plain_digest(row.params)
    assert {"models/bundle.py", "features/panel.py"} <= row.build_environment["code"].keys()
    assert row.torch == torch.__version__
    assert row.device.startswith("cpu ")
    assert (row.reason, row.dagster_run_id) == (Reason.MANUAL, shown["run"])
    newest = head(own_store.engine)
    assert newest is not None
    assert (shown["record_link"], shown["record_digest"]) == (newest.number, newest.digest)


def test_a_forecast_reads_the_prices_of_its_known_time(
    own_store: Store, registry: Registry
) -> None:
    """After a revision, the bars known at the time of the first issue still give it."""
    store_bars(own_store.engine, sample_bars(), "sample")
    forecast(own_store, registry)
    forecast(own_store, registry)
    revised = sample_bars().copy()
    at = revised["ticker"].eq("AAPL") & revised["session"].eq(pd.Timestamp(DAY))
    revised.loc[at, "close"] *= 1.001
    store_bars(own_store.engine, revised, "sample")
    forecast(own_store, registry)
    first, again = list_issues(own_store.engine, DAY, "AAPL")
    assert (first["reason"], again["reason"]) == (Reason.MANUAL, Reason.REVISION)
    assert first["predicted_price"] != again["predicted_price"]
    known = read_bars(own_store.engine, *calendar.SPAN, known_at=first["known_at"])
    made = bundle().forecast(known, [DAY]).set_index("ticker")["predicted_price"]
    assert made["AAPL"] == first["predicted_price"]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"dagster/schedule_name": "daily_after_close"}, Reason.SCHEDULED),
        ({"dagster/sensor_name": "x"}, Reason.SCHEDULED),
        ({"dagster/backfill": "x"}, Reason.BACKFILL),
        ({"dagster/asset_partition_range_start": "2013-01-04"}, Reason.BACKFILL),
        ({"dagster/partition": "2013-01-04"}, Reason.MANUAL),
    ],
)
def test_a_run_states_why_it_forecasts(tags: dict[str, str], reason: Reason) -> None:
    assert reason_of(tags) is reason


def test_a_range_is_issued_as_a_backfill(own_store: Store, registry: Registry) -> None:
    store_bars(own_store.engine, sample_bars(), "sample")
    days = [DAY, calendar.next_session(DAY)]
    result = materialize(
        ["predictions"], str(DAY), own_store, params(), registry, last=days[1].isoformat()
    )
    assert result.success, failure(result)
    made = predictions_as_of(own_store.engine, days)
    assert set(made["issued"]) == {Issued.BACKFILLED}
    assert set(made["issue"]) == {1}
    with own_store.engine.connect() as connection:
        assert connection.scalars(select(forecast_issues.c.reason)).all() == [Reason.BACKFILL]


def test_the_first_live_issue_is_scored_though_a_later_one_differs(engine: Engine) -> None:
    as_of = calendar.next_session(datetime.now(UTC).date())
    target = calendar.next_session(as_of)
    for price in (101.0, 102.0):
        save_predictions(engine, forecasts([as_of], "A", price=price), [as_of], 1)
    store_bars(engine, bars("A", [as_of, target]))
    due, scored = score_sessions(engine, [target])
    save_performance(engine, scored, [target], "run")
    kept = recent_performance(engine, 20, (DATASET, 1))
    assert due["predicted_price"].tolist() == kept["predicted"].tolist() == [101.0]
    assert kept[["issue", "issued"]].to_numpy().tolist() == [[1, Issued.LIVE]]


@pytest.mark.parametrize("live", [True, False])
def test_a_retraining_decision_counts_backfilled_forecasts(engine: Engine, live: bool) -> None:
    as_of = calendar.next_session(datetime.now(UTC).date()) if live else DAY
    target = calendar.next_session(as_of)
    save_predictions(engine, forecasts([as_of]), [as_of], 1)
    store_bars(engine, bars("AB", [as_of, target]))
    save_performance(engine, score_sessions(engine, [target])[1], [target], "run")
    rows = recent_performance(engine, 20, (DATASET, 1))
    production = Production(1, None, default_bounds(0.9))
    decision = decide_retraining(rows, production, target, None, params().monitoring, 63)
    assert (decision.forecasts, decision.backfilled) == (2, 0 if live else 2)
