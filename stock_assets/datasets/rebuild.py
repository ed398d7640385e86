"""Build a dataset's panel again from stored rows, and repair its array file with it."""

from __future__ import annotations

import logging
import tempfile

from sqlalchemy import Engine

from stock_assets.core.digests import DamagedFileError
from stock_assets.core.errors import StockAssetsError
from stock_assets.datasets.build import build_panel, recorded_params
from stock_assets.features.dataset import build_feature_set
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import PanelRecord, load_panel
from stock_assets.storage.prices import read_bars

_log = logging.getLogger(__name__)


def rebuild_panel(engine: Engine, record: PanelRecord, arrays: ArrayStore) -> PanelRecord:
    """Build the panel of a record from the rows stored now; its arrays go to `arrays`.

    Raises
    ------
    StockAssetsError
        Another version of this package stored the record, or the rows no longer give a panel.
    """
    params, as_of = recorded_params(record), record.as_of_session
    first = params.prices.first_session
    bars = read_bars(engine, first, as_of, params.prices.tickers)
    built = build_feature_set(
        bars, params.features, params.dataset, first, as_of, params.walk_forward
    )
    return build_panel(record.dataset_run_id, as_of, built, params, arrays)


def open_panel(engine: Engine, arrays: ArrayStore, dataset_id: str) -> PanelRecord:
    """Read the record of a dataset's panel, whose array file is then there and undamaged.

    A missing or damaged file is rebuilt from the stored rows if these still give its digest.

    Raises
    ------
    DamagedFileError
        The file is missing or damaged, and the stored rows give another one.
    StockAssetsError
        There is no such dataset.
    """
    record = load_panel(engine, dataset_id)
    try:
        arrays.local_path(record.location)
    except DamagedFileError as damaged:
        _repair(engine, arrays, record, damaged)
    return record


def _repair(
    engine: Engine, arrays: ArrayStore, record: PanelRecord, damaged: DamagedFileError
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = ArrayStore(folder)
        try:
            rebuilt = rebuild_panel(engine, record, scratch)
        except StockAssetsError as error:
            raise _lost(record, damaged, error.problem) from None
        if rebuilt.digest != record.digest:
            raise _lost(record, damaged, "the stored rows no longer give it")
        arrays.write_tensors(scratch.read_tensors(rebuilt.location))
    _log.warning("%s; rebuilt it from the stored rows", damaged.problem)


def _lost(record: PanelRecord, damaged: DamagedFileError, reason: str) -> DamagedFileError:
    return DamagedFileError(
        f"{damaged.problem}, and {reason}",
        f"See what changed: stock-assets dataset verify {record.dataset_run_id}; train on a new "
        f"dataset: stock-assets retrain --as-of {record.as_of_session}",
    )
