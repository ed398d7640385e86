"""A dataset of real bars, built once per module by the functions that the assets call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from stock_assets.config import Dataset, Params
from stock_assets.datasets.build import build_panel, build_scalers, build_segments
from stock_assets.features.dataset import build_feature_set
from stock_assets.market.sources.sample import load_sample
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.database import engine_for
from stock_assets.storage.datasets import PanelRecord, save_panel, save_scalers, save_segments
from stock_assets.storage.prices import read_bars
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import empty, tampering

KEY, AS_OF = "20121026_120000", date(2012, 10, 26)
PARAMS = Params(
    dataset=Dataset(window=10, validation_sessions=30, test_sessions=20, history_sessions=250)
)


def sample() -> pd.DataFrame:
    """Real bars of five tickers, some of them before and after those of the dataset."""
    bars = load_sample()
    return bars[bars["session"] >= "2011-06-01"].reset_index(drop=True)


@dataclass(frozen=True)
class BuiltDataset:
    """A stored dataset, its record and its two stores."""

    engine: Engine
    arrays: ArrayStore
    record: PanelRecord


def build(engine: Engine, arrays: ArrayStore) -> BuiltDataset:
    """Build a dataset from the stored bars and store it, as the assets do."""
    first = PARAMS.prices.first_session
    bars = read_bars(engine, first, AS_OF, PARAMS.prices.tickers)
    built = build_feature_set(
        bars, PARAMS.features, PARAMS.dataset, first, AS_OF, PARAMS.walk_forward
    )
    record = build_panel(KEY, AS_OF, built, PARAMS, arrays)
    save_panel(engine, record)
    fitted = build_scalers(record, arrays)
    features, target = fitted.features.to_dict(), fitted.target.to_dict()
    save_scalers(engine, KEY, features, target, fitted.digest)
    segments = build_segments(record, fitted.features, fitted.target, arrays)
    save_segments(engine, KEY, segments)
    return BuiltDataset(engine, arrays, record)


@pytest.fixture(scope="module")
def dataset(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltDataset]:
    """The dataset; tests that change anything use ``changeable``."""
    engine = engine_for(own_database)
    empty(engine)
    store_bars(engine, sample())
    with tampering(engine) as connection:
        connection.execute(text("CREATE TABLE saved_bars AS TABLE raw_stock_data"))
    yield build(engine, ArrayStore(str(tmp_path_factory.mktemp("arrays"))))
    with tampering(engine) as connection:
        connection.execute(text("DROP TABLE saved_bars"))


@pytest.fixture
def changeable(dataset: BuiltDataset) -> Iterator[BuiltDataset]:
    """The dataset; its bars and its records are restored after the test."""
    yield dataset
    with tampering(dataset.engine) as connection:
        connection.execute(text("TRUNCATE raw_stock_data, price_revisions, ticker_renames"))
        connection.execute(text("INSERT INTO raw_stock_data SELECT * FROM saved_bars"))
    build(dataset.engine, dataset.arrays)
