"""Building a dataset: every digest is decided by the rows alone."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stock_assets.config import Forecast
from stock_assets.core.errors import StockAssetsError
from stock_assets.datasets.build import (
    build_panel,
    build_scalers,
    build_segments,
    recorded_params,
)
from stock_assets.features.dataset import build_feature_set
from stock_assets.market.bars import tidy
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.prices import read_bars
from stock_assets_tests.datasets.conftest import AS_OF, KEY, PARAMS, BuiltDataset, sample


def digests(bars: pd.DataFrame, folder: Path) -> tuple[object, ...]:
    """Every digest of a dataset built from bars."""
    arrays, first = ArrayStore(str(folder)), PARAMS.prices.first_session
    built = build_feature_set(bars, PARAMS.features, PARAMS.dataset, first, AS_OF)
    panel = build_panel(KEY, AS_OF, built, PARAMS, arrays, known_at=None)
    scalers = build_scalers(panel, arrays)
    segments = build_segments(panel, scalers.features, scalers.target, arrays)
    return panel.bars_digest, panel.digest, scalers.digest, segments


def test_build_panel_records_what_it_was_built_from(dataset: BuiltDataset) -> None:
    record = dataset.record
    assert record.as_of_session == record.last_session == AS_OF
    assert record.params == PARAMS.model_dump(mode="json")
    assert recorded_params(record) == PARAMS
    assert set(dataset.arrays.read_tensors(record.location)) == {"values", "valid", "close"}
    assert record.adjustment_factors.keys() == set(record.tickers)


def test_build_segments_are_disjoint_and_end_at_the_as_of_session(dataset: BuiltDataset) -> None:
    scalers = build_scalers(dataset.record, dataset.arrays)
    train, validation, test = build_segments(
        dataset.record, scalers.features, scalers.target, dataset.arrays
    )
    assert [s.set_name for s in (train, validation, test)] == ["train", "validation", "test"]
    assert train.last_position < validation.first_position
    assert validation.last_position < test.first_position
    assert test.last_position - test.first_position + 1 == PARAMS.dataset.test_sessions
    assert test.last_session < AS_OF


@pytest.mark.parametrize("seed", [1, 2])
def test_digests_do_not_depend_on_the_order_of_rows(
    dataset: BuiltDataset, tmp_path: Path, seed: int
) -> None:
    expected = digests(sample(), tmp_path)
    shuffled = sample().sample(frac=1.0, random_state=seed)
    assert digests(tidy(shuffled), tmp_path) == expected
    stored = read_bars(dataset.engine, sample()["session"].min().date(), AS_OF)
    assert digests(stored, tmp_path) == expected


def test_digests_change_with_one_bit_of_one_bar(tmp_path: Path) -> None:
    bars = sample()
    row = bars.index[(bars["ticker"] == "IBM") & (bars["session"] == "2012-03-01")][0]
    changed = bars.copy()
    changed.loc[row, "close"] += 0.01
    before, after = digests(bars, tmp_path), digests(changed, tmp_path)
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_recorded_params_rejects_records_of_other_versions(dataset: BuiltDataset) -> None:
    other_params = replace(dataset.record, params=dataset.record.params | {"weather": {}})
    earlier = {name: {"price": 1.0, "volume": 1.0} for name in dataset.record.adjustment_factors}
    other_factors = replace(dataset.record, adjustment_factors=earlier)
    for record, key in ((other_params, "weather"), (other_factors, "adjustment_factors")):
        with pytest.raises(StockAssetsError, match=key):
            recorded_params(record)


def test_recorded_params_of_an_earlier_version_have_its_segments(dataset: BuiltDataset) -> None:
    """It skipped the window too between two segments, and had one coverage and other monitoring."""
    params = deepcopy(dataset.record.params)
    params["monitoring"]["minimum_forecasts"] = 50
    del params["training"]["shrinkage"], params["forecast"]["scale"]
    params["forecast"] = {"coverage": 0.8}
    recorded = recorded_params(replace(dataset.record, params=params))
    own = PARAMS.dataset.model_copy(update={"embargo_sessions": PARAMS.dataset.window})
    assert recorded == PARAMS.model_copy(
        update={"dataset": own, "forecast": Forecast(coverages=[0.8])}
    )
    assert params["dataset"] == PARAMS.dataset.model_dump(mode="json")
