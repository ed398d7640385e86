"""A dataset of real bars, built once per module by the functions that the assets call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd
import pytest
from sqlalchemy import Engine

from stock_assets.config import Dataset, Params
from stock_assets.datasets.build import build_panel, build_scalers, build_segments
from stock_assets.features.dataset import build_feature_set
from stock_assets.market.sources.sample import load_sample
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.database import engine_for
from stock_assets.storage.datasets import PanelRecord, save_panel, save_scalers, save_segments
from stock_assets.storage.prices import read_bars
from stock_assets.storage.record import head
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import empty

KEY, AS_OF = "20121026_120000", date(2012, 10, 26)
PARAMS = Params(
    dataset=Dataset(window=10, validation_sessions=30, test_sessions=20, history_sessions=250)
)


def sample() -> pd.DataFrame:
    """Real bars of five tickers, some of them before and after those of the dataset."""
    bars = load_sample()
    return bars[bars["session"] >= "2011-06-01"].reset_index(drop=True)


@dataclass
class BuiltDataset:
    """A stored dataset, its record and its two stores."""

    engine: Engine
    arrays: ArrayStore
    record: PanelRecord


def build(engine: Engine, arrays: ArrayStore) -> BuiltDataset:
    """Build a dataset from the newest bars and store it, as the assets do."""
    newest = head(engine)
    assert newest is not None
    return build_known(engine, arrays, newest.written_at)


def build_known(engine: Engine, arrays: ArrayStore, known_at: datetime | None) -> BuiltDataset:
    """Build a dataset from the bars known at a moment, or from those of the table."""
    first = PARAMS.prices.first_session
    bars = read_bars(engine, first, AS_OF, PARAMS.prices.tickers, known_at)
    built = build_feature_set(
        bars, PARAMS.features, PARAMS.dataset, first, AS_OF, PARAMS.walk_forward
    )
    record = build_panel(KEY, AS_OF, built, PARAMS, arrays, known_at=known_at)
    save_panel(engine, record)
    fitted = build_scalers(record, arrays)
    features, target = fitted.features.to_dict(), fitted.target.to_dict()
    save_scalers(engine, KEY, features, target, fitted.digest)
    segments = build_segments(record, fitted.features, fitted.target, arrays)
    save_segments(engine, KEY, segments)
    return BuiltDataset(engine, arrays, record)


@pytest.fixture(scope="module")
def dataset(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> BuiltDataset:
    """The dataset; tests that change anything use ``changeable``."""
    engine = engine_for(own_database)
    empty(engine)
    store_bars(engine, sample())
    return build(engine, ArrayStore(str(tmp_path_factory.mktemp("arrays"))))


@pytest.fixture
def changeable(dataset: BuiltDataset) -> Iterator[BuiltDataset]:
    """The dataset; all rows are stored again after the test."""
    yield dataset
    empty(dataset.engine)
    store_bars(dataset.engine, sample())
    dataset.record = build(dataset.engine, dataset.arrays).record
