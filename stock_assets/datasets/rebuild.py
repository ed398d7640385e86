"""Rebuild a dataset's panel from the rows that it read, and repair its array file."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath

from sqlalchemy import Engine

from stock_assets.config import Prices
from stock_assets.core.digests import DamagedFileError, short
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import parse_moment
from stock_assets.datasets.build import build_panel, recorded_params
from stock_assets.features.dataset import build_feature_set
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import PanelRecord, find_panel, load_panel
from stock_assets.storage.prices import read_bars
from stock_assets.storage.record import head

_READ = "tickers", "first_session"
"""The parameters of prices that decide which bars a dataset reads."""

_log = logging.getLogger(__name__)


def rebuild_panel(engine: Engine, record: PanelRecord, arrays: ArrayStore) -> PanelRecord:
    """Rebuild the panel of a record from the rows known when it was built.

    Where that moment was not recorded, the rows stored now are read.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    record : PanelRecord
    arrays : ArrayStore
        Where the arrays go.

    Raises
    ------
    StockAssetsError
        Another version of this package stored the record, or the rows no longer give a panel.
    """
    params, as_of = recorded_params(record), record.as_of_session
    first = params.prices.first_session
    bars = read_bars(engine, first, as_of, params.prices.tickers, record.known_at)
    built = build_feature_set(
        bars, params.features, params.dataset, first, as_of, params.walk_forward
    )
    rebuilt = build_panel(
        record.dataset_run_id, as_of, built, params, arrays, known_at=record.known_at
    )
    return replace(rebuilt, params=record.params)


def choose_known_at(
    engine: Engine, dataset_id: str, prices: Prices, given: str | None
) -> datetime | None:
    """Return the moment whose prices a dataset is built from.

    By default it is the recorded one if the dataset was built from the same tickers and first
    session, so that a retraining continues on the same rows; otherwise that of the newest link.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    dataset_id : str
        A dataset, built or not.
    prices : Prices
        The present parameters.
    given : str or None
        See :func:`stock_assets.core.moments.parse_moment`; None for the default.

    Returns
    -------
    datetime or None
        None if nothing is stored at all.

    Raises
    ------
    StockAssetsError
        The given text is not a moment.
    """
    if given is not None:
        return parse_moment(given)
    built = find_panel(engine, dataset_id)
    if built is not None and built.known_at is not None:
        now = prices.model_dump(mode="json")
        if all(built.params["prices"].get(name) == now[name] for name in _READ):
            return built.known_at
    newest = head(engine)
    return None if newest is None else newest.written_at


def open_panel(engine: Engine, arrays: ArrayStore, dataset_id: str) -> PanelRecord:
    """Read the record of a dataset's panel; its array file is then present and undamaged.

    A missing or damaged file is rebuilt from the rows if these still give its digest.

    Raises
    ------
    DamagedFileError
        The file is missing or damaged, and the stored rows give another one; or the record names
        the file of another panel.
    StockAssetsError
        There is no such dataset.
    """
    record = load_panel(engine, dataset_id)
    if PurePosixPath(record.location).stem != record.digest:
        raise DamagedFileError(
            f"dataset {dataset_id} names the array file {record.location}, and the digest of its "
            f"panel is {short(record.digest)}",
            "Find the change of its row: stock-assets verify",
        )
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
