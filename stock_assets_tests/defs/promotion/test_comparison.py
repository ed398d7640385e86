"""Which forecasts of candidate and production are compared, on which prices."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import delete

from stock_assets.config import Rename
from stock_assets.defs.resources import Store
from stock_assets.market.bars import tidy
from stock_assets.models import baselines
from stock_assets.storage.datasets import load_segments
from stock_assets.storage.record import head
from stock_assets.storage.renames import apply_renames
from stock_assets.storage.tables import model_promotions
from stock_assets_tests.conftest import SECOND_DATASET, Loop
from stock_assets_tests.defs.promotion.decided import HELD_OUT, met
from stock_assets_tests.models.bundles import bundle, sample_bars
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import tampering


def test_models_before_and_after_a_rename_are_compared_on_all_tickers(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    rename = Rename(old="FB", new="META", first_session=date(2012, 11, 15))
    tickers = ["AAPL", "GOOG", "IBM", "META", "MSFT"]
    bars = sample_bars()
    bars = tidy(bars.assign(ticker=bars["ticker"].replace({"FB": "META"})))
    store_bars(own_store.engine, bars)
    candidate = bundle(bars=bars, as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    universe: dict[str, object] = {"tickers": tickers, "renames": [rename]}
    record = met(own_store, tmp_path, candidate, date(2012, 8, 31), prices=universe)
    assert record.production is not None
    for scores in (record.candidate, record.production, record.persistence):
        assert scores["forecasts"] == len(tickers) * len(HELD_OUT)


def test_a_comparison_reads_the_prices_that_the_dataset_read(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    """Prices are revised and a ticker is renamed before the comparison is made again."""
    store_bars(own_store.engine, sample_bars())
    newest = head(own_store.engine)
    assert newest is not None
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    learnt_until, known_at = date(2012, 8, 31), newest.written_at
    before = met(own_store, tmp_path / "before", candidate, learnt_until, known_at=known_at)
    with tampering(own_store.engine) as connection:
        connection.execute(delete(model_promotions))
    prices, random = ["open", "high", "low", "close"], np.random.default_rng(3)
    revised = sample_bars().copy()
    revised[prices] *= 1.0 + 0.2 * random.random((len(revised), 1))
    store_bars(own_store.engine, revised)
    rename = Rename(old="FB", new="META", first_session=date(2013, 2, 1))
    apply_renames(own_store.engine, [rename])
    universe = {"tickers": ["AAPL", "GOOG", "IBM", "META", "MSFT"], "renames": [rename]}
    after = met(
        own_store, tmp_path / "after", candidate, learnt_until, known_at=known_at, prices=universe
    )
    # Tickers are in another order, so that sums are rounded otherwise.
    assert after.candidate == pytest.approx(before.candidate, rel=1e-9)
    assert after.production == pytest.approx(before.production, rel=1e-9)


def test_unmatched_forecasts_decide_nothing_and_are_reported(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2, horizon=3)
    with dg.DagsterInstance.ephemeral() as instance:
        record = met(own_store, tmp_path, candidate, date(2012, 8, 31), instance)
        (event,) = instance.fetch_materializations(dg.AssetKey("promotion"), limit=2).records
    assert record.candidate["forecasts"] == 5 * len(HELD_OUT)
    more = 2 * 5 * len(HELD_OUT)
    assert record.decision.unmatched_forecasts == more
    unmatched = event.asset_materialization.metadata["unmatched"].value.records
    recorded = [(row.data["horizon"], row.data["model"]) for row in unmatched]
    assert recorded == [(ahead, name) for ahead in (2, 3) for name in ("candidate", "persistence")]
    assert all(row.data["coverage"] is not None for row in unmatched[::2])
    (run, *_) = mlflow.search_runs(experiment_names=["promotion"], output_format="list")
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id))
    by_ticker = pd.read_csv(folder / "evaluation" / "unmatched_tickers.csv")
    assert by_ticker["forecasts"].sum() == 2 * more
    page = (folder / "evaluation.html").read_text(encoding="utf-8")
    assert "Per horizon, without a counterpart in production" in page


def test_sessions_that_production_was_trained_on_are_left_out(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    """The test segment has been made longer since production was trained."""
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    record = met(own_store, tmp_path, candidate, date(2012, 12, 14))
    newest_label = date(2012, 12, 17)
    assert (record.first_session, record.last_session) == (newest_label, HELD_OUT[-1])
    assert record.production is not None
    for scores in (record.candidate, record.production, record.persistence):
        assert scores["sessions"] == len(HELD_OUT) - HELD_OUT.index(newest_label)


def test_tickers_outside_the_universe_decide_nothing(
    loop: Loop, own_store: Store, tmp_path: Path
) -> None:
    """A ticker that was removed is still stored, and no baseline learns from it."""
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    alone = met(own_store, tmp_path / "alone", candidate, date(2012, 8, 31))
    with tampering(own_store.engine) as connection:
        connection.execute(delete(model_promotions))
    ibm = sample_bars().query("ticker == 'IBM'")
    prices = ["open", "high", "low", "close"]
    wild = 1.0 + 0.2 * np.random.default_rng(3).random(len(ibm))
    delisted = ibm.assign(ticker="GONE", **{name: ibm[name] * wild for name in prices})
    store_bars(own_store.engine, tidy(pd.concat([sample_bars(), delisted])))
    beside = met(own_store, tmp_path / "beside", candidate, date(2012, 8, 31))
    for scores in ("candidate", "production", "persistence"):
        assert getattr(beside, scores) == getattr(alone, scores)


def test_fitted_baselines_learn_from_training_and_are_chosen_on_validation(
    loop: Loop, own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, tuple[object, ...]] = {}
    for name in ("ridge", "gradient_boosting"):

        def recorded(*arguments: object, name: str = name) -> pd.DataFrame:
            given[name] = arguments
            return getattr(baselines, name)(*arguments)

        monkeypatch.setattr(f"stock_assets.pipeline.promotion.{name}", recorded)
    store_bars(own_store.engine, sample_bars())
    candidate = bundle(as_of=date(2013, 1, 31), dataset_id=SECOND_DATASET, seed=2)
    met(own_store, tmp_path, candidate, date(2012, 8, 31))
    train, validation = (
        (segment.first_session, segment.last_session)
        for name, segment in sorted(load_segments(own_store.engine, SECOND_DATASET).items())
        if name != "test"
    )
    assert given["ridge"][1:] == (train, validation, candidate.recipe.network.window, 1)
    assert given["gradient_boosting"][3:] == (train, validation, 1)
