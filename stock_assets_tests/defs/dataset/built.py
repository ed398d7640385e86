"""Datasets of real bars, built by the assets on stores of the test."""

from __future__ import annotations

from datetime import date

import dagster as dg
import numpy as np
import pandas as pd

from stock_assets.core.moments import write_moment
from stock_assets.defs.resources import Store
from stock_assets.market.bars import tidy
from stock_assets.market.sources.sample import load_sample
from stock_assets.storage.datasets import load_panel, load_scalers, load_segments
from stock_assets.storage.record import head
from stock_assets_tests.defs.running import materialize, params
from stock_assets_tests.storage.examples import store_bars

STAGE = ["processed_features", "scalers", "scaled_features"]
SMALL = {"window": 10, "validation_sessions": 30, "test_sessions": 20, "history_sessions": 250}
KEY = "20121026_120000"


def recent() -> pd.DataFrame:
    bars = load_sample()
    return bars[bars["session"] >= "2011-06-01"].reset_index(drop=True)


def made(
    store: Store, bars: pd.DataFrame, key: str = KEY, **sections: dict[str, object]
) -> dg.ExecuteInProcessResult:
    """Store bars and build a dataset from the newest prices."""
    store_bars(store.engine, bars, "sample")
    given = {**sections, "dataset": SMALL | sections.get("dataset", {})}
    newest = head(store.engine)
    assert newest is not None
    config = {"processed_features": {"known_at": write_moment(newest.written_at)}}
    return materialize(STAGE, key, store, params(**given), config=config)


def stored(store: Store, key: str) -> dict[str, object]:
    """Everything that is stored of a dataset: names, panel, labels, masks and scalers."""
    record, segments = load_panel(store.engine, key), load_segments(store.engine, key)
    arrays = store.arrays.read_tensors(record.location)
    return {
        "tickers": record.tickers,
        "features": record.features,
        "adjustment_factors": record.adjustment_factors,
        "bars_digest": record.bars_digest,
        "scalers": load_scalers(store.engine, key),
        "segments": segments,
        **{f"panel {name}": value.tobytes() for name, value in arrays.items()},
    }


def perturbed(day: date, seed: int) -> pd.DataFrame:
    """Other prices and volumes after a day, splits, dividends and a newcomer."""
    random = np.random.default_rng(seed)
    changed = recent()
    later = changed["session"] > pd.Timestamp(day)
    count = int(later.sum())
    changed.loc[later, ["open", "high", "low", "close"]] *= random.uniform(0.5, 2.0, (count, 1))
    changed.loc[later, "volume"] = random.integers(1, 10**9, count)
    changed.loc[later, "stock_splits"] = random.choice([0.0, 2.0, 7.0], count, p=[0.9, 0.05, 0.05])
    changed.loc[later, "dividends"] = random.choice([0.0, 0.2], count, p=[0.9, 0.1])
    newcomer = changed[later & (changed["ticker"] == "IBM")].assign(ticker="NEW")
    return tidy(pd.concat([changed, newcomer]))
