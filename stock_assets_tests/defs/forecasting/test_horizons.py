"""The loop with three sessions ahead: trained, forecast, written and scored as they come due."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import torch
from sqlalchemy import text

from stock_assets.cli.platform import Platform
from stock_assets.config import Params, Target, Tracking
from stock_assets.core.locations import find_locations
from stock_assets.defs.automation import RETRAINING_ASSETS
from stock_assets.defs.resources import Store
from stock_assets.features.labels import cumulate_steps
from stock_assets.features.scaling import Scaler
from stock_assets.market import calendar
from stock_assets.models import training
from stock_assets.models.networks import Network
from stock_assets.pipeline.training_logs import logged_training
from stock_assets.registry import Registry
from stock_assets.storage.datasets import load_panel, load_scalers, load_segments
from stock_assets.storage.decisions import promotion_of
from stock_assets.storage.forecasts import predictions_as_of, read_performance
from stock_assets_tests.defs.running import by_partition, failure, materialize, metadata, params
from stock_assets_tests.models.bundles import FIRST, sample_bars
from stock_assets_tests.storage.examples import store_bars

HORIZON = 3
AS_OF, DATASET = date(2012, 12, 31), "20121231_130000"
DAYS = [AS_OF, *calendar.next_sessions(AS_OF, HORIZON)]
TRACKING = Tracking(experiment="horizons", model_name="Ahead")
TICKERS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]


@pytest.fixture
def registry(platform: Platform) -> Registry:
    return Registry(TRACKING)


@pytest.fixture
def ahead() -> Params:
    dataset = {
        "prediction_length": HORIZON,
        "window": 10,
        "history_sessions": None,
        "validation_sessions": 40,
        "test_sessions": 20,
    }
    return params(dataset=dataset, prices={"first_session": FIRST}, tracking=TRACKING.model_dump())


def made(
    assets: Sequence[Any], key: str, store: Store, ahead: Params, registry: Registry, **config: Any
) -> dg.ExecuteInProcessResult:
    result = materialize(assets, key, store, ahead, registry, config=config)
    assert result.success, failure(result)
    return result


def test_the_loop_runs_three_sessions_ahead(
    own_store: Store, ahead: Params, registry: Registry
) -> None:
    store_bars(own_store.engine, sample_bars(), "sample")
    chosen = {"tuned_params": {"trials": 1, "seed": 7}, "candidate_model": {"epochs": 1, "seed": 7}}
    retrained = made(RETRAINING_ASSETS, DATASET, own_store, ahead, registry, **chosen)
    assert_configured(own_store, registry, retrained)
    assert_trained(own_store, registry)
    assert_decided(own_store, registry, by_partition(retrained, "promotion")[DATASET])
    for day in DAYS:
        key = day.isoformat()
        recorded = metadata(made(["predictions"], key, own_store, ahead, registry), "predictions")
        assert recorded["dagster/row_count"] == recorded["forecasts"] == HORIZON * len(TICKERS)
        assert recorded["not_forecast"] == {}
    assert_forecast(own_store)
    for number, day in enumerate(DAYS[1:], start=1):
        key = day.isoformat()
        result = made(["performance_log"], key, own_store, ahead, registry)
        recorded = metadata(result, "performance_log")
        assert recorded["forecasts_due"] == recorded["forecasts_scored"] == number * len(TICKERS)
        assert_scored(own_store, day, number)


def assert_configured(
    store: Store, registry: Registry, retrained: dg.ExecuteInProcessResult
) -> None:
    """What the run was configured with is recorded with the dataset and with the model."""
    tuned = metadata(retrained, "tuned_params")
    assert (tuned["trials"], tuned["settings"]["trials"], tuned["settings"]["seed"]) == (1, 1, 7)
    with store.engine.connect() as connection:
        settings = connection.scalar(text("SELECT settings FROM optimization_results"))
    assert settings == tuned["settings"]
    assert metadata(retrained, "candidate_model")["epochs"] == 1
    logged = logged_training(registry.client(), registry.candidate(DATASET))
    assert (logged.training.epochs, logged.training.seed) == (1, 7)


def assert_trained(store: Store, registry: Registry) -> None:
    recipe = registry.load(registry.candidate(DATASET).version).recipe
    assert recipe.network.horizon == len(recipe.shrinkage) == HORIZON
    segments = load_segments(store.engine, DATASET)
    assert calendar.next_session(segments["test"].last_session, HORIZON) == AS_OF
    assert segments["test"].purge_sessions == HORIZON - 1


def assert_decided(store: Store, registry: Registry, recorded: dict[str, Any]) -> None:
    record = promotion_of(store.engine, TRACKING.model_name, DATASET)
    assert record is not None
    assert record.promoted
    for scores in (record.candidate, record.persistence, *record.persistence["baselines"].values()):
        assert scores["forecasts"] == HORIZON * 20 * len(TICKERS)
    shown = pd.DataFrame([row.data for row in recorded["per_horizon"].records])
    assert len(shown) == HORIZON * len(
        {"candidate", "persistence", *record.persistence["baselines"]}
    )
    assert set(shown["forecasts"]) == {20 * len(TICKERS)}
    folder = Path(registry.client().download_artifacts(record.mlflow_run_id, ""))
    logged = pd.read_csv(folder / "evaluation" / "horizons.csv")
    assert logged["horizon"].unique().tolist() == [1, 2, 3]
    assert "Per horizon" in (folder / "evaluation.html").read_text(encoding="utf-8")


def assert_forecast(store: Store) -> None:
    """Every horizon is stored; the files and their contract know the next session alone."""
    stored = predictions_as_of(store.engine, [AS_OF])
    assert stored["horizon"].tolist() == [1, 2, 3] * len(TICKERS)
    assert stored["target_session"].dt.date.tolist() == DAYS[1:] * len(TICKERS)
    nearest = stored[stored["horizon"] == 1]
    history = find_locations().forecasts_folder / "historical"
    targets = calendar.next_sessions(AS_OF, len(DAYS))
    assert sorted(path.stem for path in history.iterdir()) == [str(day) for day in targets]
    content = json.loads((history / f"{DAYS[1]}.json").read_text())
    prices = dict(zip(nearest["ticker"], nearest["predicted_price"], strict=True))
    assert (content["date"], content["predictions"]) == (str(DAYS[1]), prices)
    with store.engine.connect() as connection:
        newest = connection.execute(
            text("SELECT as_of_session, horizon, count(*) FROM latest_predictions GROUP BY 1, 2")
        ).all()
    assert sorted(newest) == [(DAYS[-1], horizon, len(TICKERS)) for horizon in (1, 2, 3)]


def assert_scored(store: Store, day: date, horizons: int) -> None:
    scored = read_performance(store.engine, day, day)
    assert scored["horizon"].tolist() == list(range(1, horizons + 1)) * len(TICKERS)
    closes = sample_bars().set_index(["session", "ticker"])["close"]
    for row in scored.itertuples():
        assert row.as_of_session.date() == calendar.previous_session(day, row.horizon)
        assert row.actual == closes[pd.Timestamp(day), row.ticker]
        assert row.persistence == pytest.approx(closes[row.as_of_session, row.ticker])


def numbered_bars() -> pd.DataFrame:
    """Closes of two tickers that are the numbers of their sessions, from 1 and from 1001 on."""
    bars = sample_bars().query("ticker in ['AAPL', 'IBM']").reset_index(drop=True)
    number = bars.groupby("ticker").cumcount() + bars["ticker"].map({"AAPL": 1.0, "IBM": 1001.0})
    prices = dict.fromkeys(("open", "high", "low", "close"), number)
    return bars.assign(**prices, dividends=0.0, stock_splits=0.0)


@pytest.mark.parametrize("target", [pytest.param("close", marks=pytest.mark.long), "log_return"])
def test_closes_that_count_sessions_are_labelled_with_the_three_next_numbers(
    own_store: Store, ahead: Params, registry: Registry, target: Target
) -> None:
    """Labels are read where the loss is computed, in tuning and in training."""
    store_bars(own_store.engine, numbered_bars(), "sample")
    counting = ahead.model_copy(
        update={
            "features": ahead.features.model_copy(update={"groups": ["raw"], "basis": "raw"}),
            "dataset": ahead.dataset.model_copy(update={"target": target}),
            "prices": ahead.prices.model_copy(update={"tickers": ["AAPL", "IBM"]}),
        }
    )
    batches: list[tuple[torch.Tensor, torch.Tensor]] = []

    def seen(network: Network, examples: Any, rows: torch.Tensor, loss: Any) -> torch.Tensor:
        inputs, _ = examples.windows.batch(examples.ends[rows])
        batches.append((inputs[:, -1], examples.labels[rows]))
        return summed_loss(network, examples, rows, loss)

    summed_loss = training._summed_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_summed_loss", seen)
        made(RETRAINING_ASSETS, DATASET, own_store, counting, registry)
    record = load_panel(own_store.engine, DATASET)
    features, labels = map(Scaler.from_dict, load_scalers(own_store.engine, DATASET))
    last, steps = (torch.cat(parts).double().numpy() for parts in zip(*batches, strict=True))
    close = features.inverse(last)[:, np.newaxis, :, record.features.index("Close")]
    recorded = cumulate_steps(labels.inverse(steps[..., np.newaxis])[..., 0], target)
    reached = close * np.exp(recorded) if target == "log_return" else recorded
    number = np.arange(1, HORIZON + 1)[:, np.newaxis]
    assert len(reached) > 1000
    np.testing.assert_allclose(reached - close, np.broadcast_to(number, reached.shape), atol=0.01)
