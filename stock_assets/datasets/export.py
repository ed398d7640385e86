"""Export a dataset's panel and labels to Parquet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from sqlalchemy import Engine

from stock_assets.core.errors import StockAssetsError
from stock_assets.datasets.build import recorded_params
from stock_assets.datasets.rebuild import open_panel
from stock_assets.features.labels import session_labels
from stock_assets.features.panel import Panel, to_frame
from stock_assets.market.calendar import sessions
from stock_assets.storage.arrays import ArrayStore


def export_panel(engine: Engine, arrays: ArrayStore, dataset_id: str, file: Path) -> int:
    """Write one Parquet row per session and ticker: unscaled features, label and validity.

    The file appears whole or not at all.

    Returns
    -------
    int
        The number of rows.

    Raises
    ------
    StockAssetsError
        There is no such dataset, or no folder to write to.
    """
    if not file.absolute().parent.is_dir():
        raise StockAssetsError(f"there is no folder {file.parent}", "Create it, or choose another")
    record = open_panel(engine, arrays, dataset_id)
    tensors = arrays.read_tensors(record.location)
    panel = Panel(
        sessions=pd.DatetimeIndex(sessions(record.first_session, record.last_session)),
        tickers=tuple(record.tickers),
        features=tuple(record.features),
        **{name: tensors[name] for name in ("values", "valid", "close")},
    )
    frame = to_frame(panel, session_labels(panel.close, recorded_params(record).dataset.target))
    partial = file.with_name(f"{file.name}.partial")
    frame.to_parquet(partial, index=False)
    partial.replace(file)
    return len(frame)
