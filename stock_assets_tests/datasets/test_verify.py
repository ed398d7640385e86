"""Verifying a dataset: it equals its record, or the part and the recorded change are named."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import date
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from sqlalchemy import text

from stock_assets.config import Rename
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import build_environment
from stock_assets.datasets.build import build_scalers, build_segments
from stock_assets.datasets.rebuild import rebuild_panel
from stock_assets.datasets.verify import Verification, verify
from stock_assets.market.bars import tidy
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import load_panel, save_panel, save_scalers, save_segments
from stock_assets.storage.renames import apply_renames
from stock_assets_tests.datasets.conftest import KEY, PARAMS, BuiltDataset, build, sample
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import empty, tampering


def verified(dataset: BuiltDataset) -> Verification:
    return verify(dataset.engine, dataset.arrays, KEY)


def differing(found: Verification) -> set[str]:
    return {part.name for part in found.parts if part.equal is False}


def changed_bar(ticker: str, day: str) -> pd.DataFrame:
    """The sample with twice the volume in one bar."""
    bars = sample()
    where = (bars["ticker"] == ticker) & (bars["session"] == day)
    assert where.sum() == 1
    bars.loc[where, "volume"] *= 2.0
    return bars


def test_an_unchanged_dataset_is_equal_in_every_part(dataset: BuiltDataset) -> None:
    folder = dataset.arrays.local_path(dataset.record.location).parent.parent
    files = sorted(folder.rglob("*"))
    found = verified(dataset)
    assert [part.name for part in found.parts] == ["rows", "panel", "scalers", "segments", "file"]
    assert (found.equal, found.changes) == (True, [])
    assert load_panel(dataset.engine, KEY) == dataset.record
    assert sorted(folder.rglob("*")) == files


def test_later_bars_and_other_tickers_change_nothing(changeable: BuiltDataset) -> None:
    store_bars(changeable.engine, changed_bar("IBM", "2012-11-01"))
    store_bars(changeable.engine, tidy(sample().query("ticker == 'IBM'").assign(ticker="HAL")))
    found = verified(changeable)
    assert (found.equal, found.changes) == (True, [])


def test_a_dataset_of_an_earlier_version_is_equal(changeable: BuiltDataset) -> None:
    """As that version built it: the window was skipped too between two segments."""
    engine, arrays, record = changeable.engine, changeable.arrays, changeable.record
    params = deepcopy(record.params)
    del params["training"]["shrinkage"]
    params["forecast"] = {"coverage": 0.9}
    earlier = replace(record, params=params)
    save_panel(engine, earlier)
    fitted = build_scalers(earlier, arrays)
    features, target = fitted.features.to_dict(), fitted.target.to_dict()
    save_scalers(engine, KEY, features, target, fitted.digest)
    segments = build_segments(earlier, fitted.features, fitted.target, arrays)
    save_segments(engine, KEY, segments)
    assert [segment.purge_sessions for segment in segments] == [PARAMS.dataset.window] * 3
    train, validation, test = segments
    for before, after in ((train, validation), (validation, test)):
        assert after.first_position - before.last_position - 1 == PARAMS.dataset.window
    assert (verified(changeable).equal, verified(changeable).changes) == (True, [])
    assert load_panel(engine, KEY).params == params
    with TemporaryDirectory() as folder:
        assert rebuild_panel(engine, earlier, ArrayStore(folder)).params == params


def revise(dataset: BuiltDataset) -> None:
    store_bars(dataset.engine, changed_bar("IBM", "2012-03-01"))


def store_missing_bar(dataset: BuiltDataset) -> None:
    """Build the dataset without a bar, and store that bar afterwards."""
    empty(dataset.engine)
    bars = sample()
    missing = (bars["ticker"] == "IBM") & (bars["session"] == "2012-03-01")
    store_bars(dataset.engine, bars[~missing].reset_index(drop=True))
    build(dataset.engine, dataset.arrays)
    assert verified(dataset).changes == []
    store_bars(dataset.engine, bars)


def rename(dataset: BuiltDataset) -> None:
    renamed = Rename(old="FB", new="META", first_session=date(2013, 2, 1))
    apply_renames(dataset.engine, [renamed])


CHANGES = pytest.mark.parametrize(
    ("change", "named"),
    [
        (revise, "IBM 2012-03-01: volume revised from "),
        (store_missing_bar, "IBM 2012-03-01: bar stored on "),
        (rename, "FB renamed to META on "),
    ],
)


@CHANGES
def test_a_later_change_is_named_and_leaves_the_dataset_equal(
    changeable: BuiltDataset, change: Callable[[BuiltDataset], None], named: str
) -> None:
    change(changeable)
    found = verified(changeable)
    assert found.equal
    assert found.changes[0].startswith(named)


@CHANGES
def test_without_a_recorded_moment_a_later_change_shows(
    changeable: BuiltDataset, change: Callable[[BuiltDataset], None], named: str
) -> None:
    change(changeable)
    save_panel(changeable.engine, replace(load_panel(changeable.engine, KEY), known_at=None))
    found = verified(changeable)
    assert found.known_at is None
    assert "rows" in differing(found)
    assert "file" not in differing(found)
    assert found.changes[0].startswith(named)


def test_parts_that_are_not_built_yet_are_not_compared(
    changeable: BuiltDataset,
) -> None:
    with tampering(changeable.engine) as connection:
        connection.execute(text("TRUNCATE scalers, scaled_feature_sets"))
    found = verified(changeable)
    assert found.equal
    assert [part.equal for part in found.parts[2:4]] == [None] * 2


def test_rows_edited_outside_the_store_have_no_recorded_change(changeable: BuiltDataset) -> None:
    revise(changeable)
    with tampering(changeable.engine) as connection:
        at = "ticker = 'IBM' AND session = '2012-03-01'"
        connection.execute(
            text(f"UPDATE raw_stock_data_history SET close = close + 0.01 WHERE {at}")
        )
    found = verified(changeable)
    assert differing(found) == {"rows", "panel", "scalers", "segments"}
    assert found.changes[0].startswith("no recorded change")


def test_missing_rows_are_a_difference_and_not_an_error(changeable: BuiltDataset) -> None:
    with tampering(changeable.engine) as connection:
        connection.execute(text("DELETE FROM raw_stock_data_history"))
    found = verified(changeable)
    assert differing(found) == {"rows"}
    assert "there is no stored bar" in found.parts[0].message


def test_a_dataset_is_rebuilt_with_its_recorded_parameters(changeable: BuiltDataset) -> None:
    record = changeable.record
    other = record.params | {"dataset": record.params["dataset"] | {"scaler": "minmax"}}
    save_panel(changeable.engine, replace(record, params=other))
    assert differing(verified(changeable)) == {"scalers", "segments"}


def test_parameters_of_another_version_are_an_error(changeable: BuiltDataset) -> None:
    record = changeable.record
    save_panel(changeable.engine, replace(record, params=record.params | {"weather": {}}))
    with pytest.raises(StockAssetsError, match="weather"):
        verified(changeable)


def test_a_damaged_or_missing_file_is_named(dataset: BuiltDataset) -> None:
    path = dataset.arrays.local_path(dataset.record.location)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged = verified(dataset)
    path.unlink()
    missing = verified(dataset)
    path.write_bytes(content)
    for found in (damaged, missing):
        assert differing(found) == {"file"}
        assert path.name in found.parts[-1].message
        assert found.changes == []
    assert damaged.parts[-1] != missing.parts[-1]


def test_another_build_environment_is_named_though_every_part_is_equal(
    changeable: BuiltDataset,
) -> None:
    earlier = build_environment()
    earlier["libraries"]["numpy"] = "1.0.0"
    earlier["code"]["features/panel.py"] = "0" * 64
    save_panel(changeable.engine, replace(changeable.record, build_environment=earlier))
    found = verified(changeable)
    assert found.equal
    assert len(found.changes) == 2
    assert found.changes[0].startswith("numpy 1.0.0 then, ")
    assert "features/panel.py" in found.changes[1]


def test_a_record_without_a_build_environment_is_equal(changeable: BuiltDataset) -> None:
    save_panel(changeable.engine, replace(changeable.record, build_environment=None))
    found = verified(changeable)
    assert found.equal
    assert len(found.changes) == 1
