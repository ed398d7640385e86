"""A damaged array file is rebuilt from the stored rows, or refused where they give another one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from stock_assets.core.digests import DamagedFileError
from stock_assets.datasets.export import export_panel
from stock_assets.datasets.rebuild import open_panel
from stock_assets.datasets.verify import verify
from stock_assets.storage.datasets import save_panel
from stock_assets_tests.datasets.conftest import KEY, BuiltDataset, sample
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import tampering


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
def test_an_unusable_file_is_rebuilt_from_the_stored_rows(
    changeable: BuiltDataset, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = changeable.arrays.local_path(changeable.record.location)
    content = path.read_bytes()
    harm(path)
    with caplog.at_level(logging.WARNING):
        assert open_panel(changeable.engine, changeable.arrays, KEY) == changeable.record
    assert path.read_bytes() == content
    (logged,) = caplog.messages
    assert changeable.record.location in logged
    assert verify(changeable.engine, changeable.arrays, KEY).equal


def test_an_undamaged_file_is_left_alone(
    dataset: BuiltDataset, caplog: pytest.LogCaptureFixture
) -> None:
    path = dataset.arrays.local_path(dataset.record.location)
    before = path.stat()
    open_panel(dataset.engine, dataset.arrays, KEY)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not caplog.messages


def revised() -> pd.DataFrame:
    bars = sample()
    bars.loc[(bars["ticker"] == "IBM") & (bars["session"] == "2012-03-01"), "volume"] *= 2.0
    return bars


def test_a_damaged_file_is_rebuilt_after_revisions(changeable: BuiltDataset) -> None:
    path = changeable.arrays.local_path(changeable.record.location)
    content = path.read_bytes()
    flip(path)
    store_bars(changeable.engine, revised())
    open_panel(changeable.engine, changeable.arrays, KEY)
    assert path.read_bytes() == content


def test_a_damaged_file_of_unrecorded_rows_is_refused_after_revisions(
    changeable: BuiltDataset,
) -> None:
    path = changeable.arrays.local_path(changeable.record.location)
    flip(path)
    save_panel(changeable.engine, replace(changeable.record, known_at=None))
    store_bars(changeable.engine, revised())
    damaged = path.read_bytes()
    with pytest.raises(DamagedFileError) as caught:
        open_panel(changeable.engine, changeable.arrays, KEY)
    for named in (changeable.record.location, changeable.record.digest[:12]):
        assert named in caught.value.problem
    assert f"stock-assets dataset verify {KEY}" in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == damaged


def test_a_damaged_file_without_rows_is_refused(changeable: BuiltDataset) -> None:
    changeable.arrays.local_path(changeable.record.location).unlink()
    with tampering(changeable.engine) as connection:
        connection.execute(text("DELETE FROM raw_stock_data_history"))
    with pytest.raises(DamagedFileError, match=r"is missing from .* there is no stored bar"):
        open_panel(changeable.engine, changeable.arrays, KEY)


def test_a_record_that_names_the_file_of_another_panel_is_refused(
    changeable: BuiltDataset,
) -> None:
    other = changeable.arrays.write_tensors({"values": np.zeros(3)})
    save_panel(changeable.engine, replace(changeable.record, location=other.location))
    with pytest.raises(DamagedFileError, match=other.location) as caught:
        open_panel(changeable.engine, changeable.arrays, KEY)
    assert changeable.record.digest[:12] in caught.value.problem


def test_a_damaged_file_is_rebuilt_before_it_is_exported(
    changeable: BuiltDataset, tmp_path: Path
) -> None:
    whole, again = tmp_path / "whole.parquet", tmp_path / "again.parquet"
    export_panel(changeable.engine, changeable.arrays, KEY, whole)
    flip(changeable.arrays.local_path(changeable.record.location))
    export_panel(changeable.engine, changeable.arrays, KEY, again)
    assert again.read_bytes() == whole.read_bytes()
