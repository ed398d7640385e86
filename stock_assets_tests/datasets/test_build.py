"""A dataset is made again from what is stored: it is the same, or the difference has a name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from stock_assets.config import Params, Rename
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import build_environment
from stock_assets.datasets.build import (
    Verification,
    build_panel,
    build_scalers,
    build_segments,
    recorded_params,
    verify,
)
from stock_assets.defs.dataset.assets import processed_features, scaled_features, scalers
from stock_assets.defs.partitions import dataset_as_of
from stock_assets.defs.resources import Store
from stock_assets.features.dataset import build_feature_set
from stock_assets.market.bars import tidy
from stock_assets.market.sources.sample import load_sample
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import load_panel, save_panel
from stock_assets.storage.prices import read_bars
from stock_assets.storage.renames import apply_renames
from stock_assets_tests.defs.running import materialize, params
from stock_assets_tests.storage.examples import store_bars

KEY = "20121026_120000"
SMALL = {"window": 10, "validation_sessions": 30, "test_sessions": 20, "history_sessions": 250}
PARTS = ["rows", "panel", "scalers", "segments", "file"]


def sample() -> pd.DataFrame:
    """Real bars of five tickers, some of them before and after those of the dataset."""
    bars = load_sample()
    return bars[bars["session"] >= "2011-06-01"].reset_index(drop=True)


def small() -> Params:
    return params(dataset=SMALL)


@pytest.fixture
def stored(own_store: Store) -> Store:
    """A store with the bars of the sample and a dataset made of them by the assets."""
    store_bars(own_store.engine, sample())
    made = materialize([processed_features, scalers, scaled_features], KEY, own_store, small())
    assert made.success
    return own_store


def verified(store: Store) -> Verification:
    return verify(store.engine, store.arrays, KEY)


def differing(found: Verification) -> list[str]:
    return [part.name for part in found.parts if not part.equal]


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        assert connection.execute(text(statement)).rowcount == 1


def changed_bar(ticker: str, day: str, factor: float) -> pd.DataFrame:
    """The sample with another volume in one bar."""
    bars = sample()
    where = (bars["ticker"] == ticker) & (bars["session"] == day)
    assert where.sum() == 1
    bars.loc[where, "volume"] *= factor
    return bars


def test_a_dataset_made_again_is_the_same_in_every_part(stored: Store) -> None:
    found = verified(stored)
    assert [part.name for part in found.parts] == PARTS
    assert (found.equal, found.changes) == (True, [])


def test_verifying_writes_nothing(stored: Store) -> None:
    files = sorted(path for path in stored.arrays.local_path("").rglob("*") if path.is_file())
    record = load_panel(stored.engine, KEY)
    assert verified(stored).equal
    assert load_panel(stored.engine, KEY) == record
    assert files == sorted(p for p in stored.arrays.local_path("").rglob("*") if p.is_file())


def test_bars_after_the_as_of_session_and_other_tickers_change_nothing(stored: Store) -> None:
    store_bars(stored.engine, changed_bar("IBM", "2012-11-01", 2.0))
    newcomer = sample().query("ticker == 'IBM'").assign(ticker="HAL")
    store_bars(stored.engine, tidy(newcomer))
    assert (verified(stored).equal, verified(stored).changes) == (True, [])


def test_a_revised_bar_is_named(stored: Store) -> None:
    store_bars(stored.engine, changed_bar("IBM", "2012-03-01", 2.0))
    found = verified(stored)
    assert "rows" in differing(found)
    assert "file" not in differing(found)
    (told,) = found.changes
    assert told.startswith("IBM 2012-03-01: volume revised from ")


def test_a_bar_that_came_late_is_named(own_store: Store) -> None:
    bars = sample()
    missing = (bars["ticker"] == "IBM") & (bars["session"] == "2012-03-01")
    store_bars(own_store.engine, bars[~missing].reset_index(drop=True))
    assert materialize([processed_features], KEY, own_store, small()).success
    store_bars(own_store.engine, bars)
    found = verified(own_store)
    assert differing(found) == ["rows", "panel"]
    assert found.changes[0].startswith("IBM 2012-03-01: bar stored on ")
    assert found.parts[0].message.startswith("1,112 bars then, 1,113 now: digest ")


def test_a_rename_is_named(stored: Store) -> None:
    renamed = Rename(old="FB", new="META", first_session=pd.Timestamp("2013-02-01").date())
    apply_renames(stored.engine, [renamed])
    found = verified(stored)
    assert {"rows", "panel"} <= set(differing(found))
    assert found.changes[0].startswith("FB renamed to META on ")


def test_rows_changed_past_the_store_have_no_recorded_reason(stored: Store) -> None:
    at = "ticker = 'IBM' AND session = '2012-03-01'"
    execute(stored.engine, f"UPDATE raw_stock_data SET close = close + 0.01 WHERE {at}")
    found = verified(stored)
    assert {"rows", "panel", "scalers", "segments"} == set(differing(found))
    assert found.changes[0].startswith("nothing that is recorded")


def test_no_rows_at_all_are_a_difference_and_not_an_error(stored: Store) -> None:
    with stored.engine.begin() as connection:
        connection.execute(text("DELETE FROM raw_stock_data"))
    found = verified(stored)
    assert differing(found) == ["rows"]
    assert "there is no stored bar" in found.parts[0].message


def test_a_dataset_is_made_again_with_its_own_parameters(stored: Store) -> None:
    record = load_panel(stored.engine, KEY)
    assert recorded_params(record).dataset.window == SMALL["window"]
    other = record.params | {"dataset": record.params["dataset"] | {"scaler": "minmax"}}
    save_panel(stored.engine, replace(record, params=other))
    assert differing(verified(stored)) == ["scalers", "segments"]


def test_parameters_of_another_version_are_told(stored: Store) -> None:
    record = load_panel(stored.engine, KEY)
    save_panel(stored.engine, replace(record, params=record.params | {"weather": {}}))
    with pytest.raises(
        StockAssetsError, match=r"another version of this package \(its parameters: weather"
    ):
        verified(stored)


def test_anchors_of_another_version_are_told(stored: Store) -> None:
    record = load_panel(stored.engine, KEY)
    earlier = {name: {"price": 1.0, "volume": 1.0} for name in record.adjustment_factors}
    with pytest.raises(StockAssetsError, match=r"another version .*other adjustment_factors"):
        recorded_params(replace(record, adjustment_factors=earlier))


def test_a_damaged_or_missing_file_is_named(stored: Store) -> None:
    path = stored.arrays.local_path(verified(stored).parts[-1].message)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    damaged = verified(stored)
    path.unlink()
    missing = verified(stored)
    for found, told in ((damaged, "is damaged"), (missing, "is missing")):
        assert differing(found) == ["file"]
        assert path.name in found.parts[-1].message
        assert told in found.parts[-1].message
        assert found.changes == []


def test_other_makers_are_told_though_nothing_differs(stored: Store) -> None:
    record = load_panel(stored.engine, KEY)
    made = build_environment()
    made["libraries"]["numpy"] = "1.0.0"
    made["code"]["features/panel.py"] = "0" * 64
    save_panel(stored.engine, replace(record, build_environment=made))
    found = verified(stored)
    assert found.equal
    assert found.changes[0].startswith("numpy 1.0.0 then, ")
    assert found.changes[1] == "other code in features/panel.py"


def test_a_dataset_older_than_the_record_of_its_makers_says_so(stored: Store) -> None:
    save_panel(stored.engine, replace(load_panel(stored.engine, KEY), build_environment=None))
    assert verified(stored).changes == ["what it was made with was not recorded"]


def test_a_dataset_that_is_not_finished_is_verified_as_far_as_it_goes(own_store: Store) -> None:
    store_bars(own_store.engine, sample())
    assert materialize([processed_features], KEY, own_store, small()).success
    found = verified(own_store)
    assert found.equal
    assert [part.message for part in found.parts[2:4]] == ["not made yet", "not made yet"]
    assert len(found.parts) == 5


def digests(bars: pd.DataFrame, folder: Path) -> tuple[object, ...]:
    """Every digest of a dataset made of bars."""
    arrays, chosen, as_of = ArrayStore(str(folder)), small(), dataset_as_of(KEY)
    first = chosen.prices.first_session
    built = build_feature_set(bars, chosen.features, chosen.dataset, first, as_of)
    panel = build_panel(KEY, as_of, built, chosen, arrays)
    fitted = build_scalers(panel, arrays)
    segments = build_segments(panel, fitted.features, fitted.target, arrays)
    return asdict(panel), fitted.digest, segments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("arrays")


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_in_which_rows_are_read_changes_no_digest(seed: int, folder: Path) -> None:
    shuffled = sample().sample(frac=1.0, random_state=seed)
    assert digests(tidy(shuffled), folder) == digests(sample(), folder)


def test_the_order_in_which_rows_were_stored_changes_no_digest(
    engine: Engine, tmp_path: Path
) -> None:
    bars = sample()
    expected = digests(bars, tmp_path)
    fetches = bars.groupby([bars["session"].dt.year, "ticker"])
    for _, fetched in reversed(list(fetches)):
        store_bars(engine, tidy(fetched))
    stored = read_bars(engine, sample()["session"].min().date(), dataset_as_of(KEY))
    assert digests(stored, tmp_path) == expected
