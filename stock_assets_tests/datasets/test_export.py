"""Exporting a dataset: its panel and labels in Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stock_assets.core.errors import StockAssetsError
from stock_assets.datasets.export import export_panel
from stock_assets_tests.datasets.conftest import KEY, BuiltDataset


def test_export_panel_writes_features_labels_and_validity(
    dataset: BuiltDataset, tmp_path: Path
) -> None:
    record, file = dataset.record, tmp_path / "panel.parquet"
    rows = export_panel(dataset.engine, dataset.arrays, KEY, file)
    frame = pd.read_parquet(file)
    assert list(tmp_path.iterdir()) == [file]
    assert list(frame.columns) == ["session", "ticker", *record.features, "target", "valid"]
    tensors = dataset.arrays.read_tensors(record.location)
    assert rows == len(frame) == tensors["valid"].size
    exported = frame[record.features].to_numpy().reshape(tensors["values"].shape)
    np.testing.assert_array_equal(exported, tensors["values"])
    assert frame["session"].max() == pd.Timestamp(record.last_session)
    newest = frame["session"] == frame["session"].max()
    assert frame.loc[newest, "target"].isna().all()
    close = tensors["close"][:, record.tickers.index("IBM")]
    labels = frame.loc[frame["ticker"] == "IBM", "target"].to_numpy()
    np.testing.assert_array_equal(labels[:-1], np.log(close[1:] / close[:-1]))


def test_export_panel_needs_a_folder(dataset: BuiltDataset, tmp_path: Path) -> None:
    with pytest.raises(StockAssetsError, match="there is no folder"):
        export_panel(dataset.engine, dataset.arrays, KEY, tmp_path / "no" / "panel.parquet")
