"""A dataset, part by part, from stored rows: made again, it must be what was stored of it.

The assets make a dataset with the functions of this module, and :func:`verify` makes it again with
the same ones, in a place of its own that is gone afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stock_assets.config import Params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import build_environment, differences, plain_digest
from stock_assets.core.text import truncate
from stock_assets.features.dataset import FeatureSet, build_feature_set, scaled_digest
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import Scaler, fit_scalers
from stock_assets.features.splits import Split, segment_sessions, split_dataset
from stock_assets.market.adjustment import AdjustmentFactors
from stock_assets.market.bars import content_digest
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import (
    PanelRecord,
    SegmentRecord,
    bars_stored_since,
    load_panel,
    renamed_since,
    revised_since,
    scaler_summary,
    segments_of,
)
from stock_assets.storage.prices import read_bars

if TYPE_CHECKING:
    from sqlalchemy import Engine

_MOST_TOLD = 10
_UNEXPLAINED = "nothing that is recorded: rows were changed past the store, or this machine differs"


@dataclass(frozen=True)
class Fitted:
    """Scalers of a dataset as :func:`build_scalers` gives them, and the split they belong to."""

    features: Scaler
    target: Scaler
    split: Split

    @property
    def digest(self) -> str:
        """SHA-256 of their numbers."""
        return plain_digest((self.features.to_dict(), self.target.to_dict()))


@dataclass(frozen=True)
class Part:
    """What became of one part of a dataset when it was made again."""

    name: str
    equal: bool
    message: str


@dataclass(frozen=True)
class Verification:
    """Whether a dataset is what it says, part by part, and what has changed since it was made."""

    dataset_run_id: str
    as_of_session: date
    parts: list[Part]
    changes: list[str]

    @property
    def equal(self) -> bool:
        """Whether every part is what was recorded."""
        return all(part.equal for part in self.parts)


def build_panel(
    dataset_id: str, as_of: date, built: FeatureSet, params: Params, arrays: ArrayStore
) -> PanelRecord:
    """Write the arrays of a panel and describe them, with what they were made with."""
    panel = built.panel
    tensors = {"values": panel.values, "valid": panel.valid, "close": panel.close}
    stored = arrays.write_tensors(tensors)
    return PanelRecord(
        dataset_run_id=dataset_id,
        as_of_session=as_of,
        first_session=panel.sessions[0].date(),
        last_session=panel.sessions[-1].date(),
        bars=len(built.bars),
        tickers=list(panel.tickers),
        features=list(panel.features),
        basis=params.features.basis,
        adjustment_factors={
            ticker: asdict(anchor) for ticker, anchor in built.adjustment_factors.items()
        },
        target=params.dataset.target,
        params=params.model_dump(mode="json"),
        bars_digest=content_digest(built.bars),
        digest=stored.digest,
        location=stored.location,
        build_environment=build_environment(),
    )


def build_scalers(record: PanelRecord, arrays: ArrayStore) -> Fitted:
    """Fit the scalers of a panel to its training sessions."""
    params, panel = recorded_params(record), arrays.read_tensors(record.location)
    dataset = params.dataset
    split = split_dataset(len(panel["values"]), dataset, params.walk_forward)
    labels = session_labels(panel["close"], dataset.target)
    scalers = fit_scalers(panel["values"], panel["valid"], labels, split.train, dataset)
    return Fitted(*scalers, split)


def build_segments(
    record: PanelRecord, features: Scaler, target: Scaler, arrays: ArrayStore
) -> list[SegmentRecord]:
    """Lay down the segments of a panel, with the digest of them and of what is read in them."""
    params, panel = recorded_params(record), arrays.read_tensors(record.location)
    labels = session_labels(panel["close"], params.dataset.target)
    split = split_dataset(len(labels), params.dataset, params.walk_forward)
    digest = scaled_digest(panel["values"], panel["valid"], labels, (features, target), split)
    spans = segment_sessions(split, record.first_session, record.as_of_session)
    return [
        SegmentRecord(name, first, last, segment.first, segment.last, split.purge, digest)
        for name, (segment, first, last) in spans.items()
    ]


def recorded_params(record: PanelRecord) -> Params:
    """Give the parameters that a dataset was made with.

    Raises
    ------
    StockAssetsError
        Parameters have changed their names or meanings since, or what is stored of a dataset has.
    """
    if any(
        anchor.keys() != AdjustmentFactors.__dataclass_fields__.keys()
        for anchor in record.adjustment_factors.values()
    ):
        raise _of_another_version(record, "its prices have other adjustment_factors")
    try:
        return Params.model_validate(record.params)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise _of_another_version(
            record, f"its parameters: {key}: {error.errors()[0]['msg']}"
        ) from None


def _of_another_version(record: PanelRecord, what: str) -> StockAssetsError:
    return StockAssetsError(
        f"dataset {record.dataset_run_id} is of another version of this package ({what})",
        "Install that version, or make a new dataset: stock-assets retrain",
    )


def verify(engine: Engine, arrays: ArrayStore, dataset_id: str) -> Verification:
    """Make a dataset again from what is stored now, and compare every digest; nothing is written.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    arrays : ArrayStore
        Where the files of the dataset are, which are examined too.
    dataset_id : str
        A dataset with a panel. Parts that it does not have yet are told and count as equal.

    Raises
    ------
    StockAssetsError
        There is no such dataset, or its parameters are not understood any more.
    """
    record = load_panel(engine, dataset_id)
    segments = segments_of(engine, dataset_id)
    params, first = recorded_params(record), record.first_session
    try:
        again = _made_again(engine, record, params)
    except StockAssetsError as error:
        parts = [Part("rows", False, error.problem)]
    else:
        parts = _compared_parts(engine, record, segments, again)
        first = min(first, again.panel.first_session)
    changes = _changes(engine, record, first)
    if not changes and not all(part.equal for part in parts):
        changes = [_UNEXPLAINED]
    parts.append(_file_part(arrays, record.location))
    return Verification(dataset_id, record.as_of_session, parts, changes)


@dataclass(frozen=True)
class _Again:
    panel: PanelRecord
    scalers: Fitted
    segments: list[SegmentRecord]


def _made_again(engine: Engine, record: PanelRecord, params: Params) -> _Again:
    first, as_of = params.prices.first_session, record.as_of_session
    bars = read_bars(engine, first, as_of, params.prices.tickers)
    built = build_feature_set(
        bars, params.features, params.dataset, first, as_of, params.walk_forward
    )
    with tempfile.TemporaryDirectory() as folder:
        arrays = ArrayStore(folder)
        panel = build_panel(record.dataset_run_id, as_of, built, params, arrays)
        fitted = build_scalers(panel, arrays)
        segments = build_segments(panel, fitted.features, fitted.target, arrays)
    return _Again(panel, fitted, segments)


def _compared_parts(
    engine: Engine, record: PanelRecord, segments: Sequence[SegmentRecord], again: _Again
) -> list[Part]:
    return [
        _rows_part(record, again.panel),
        _panel_part(record, again.panel),
        _scalers_part(scaler_summary(engine, record.dataset_run_id), again.scalers),
        _segments_part(segments, again.segments),
    ]


def _rows_part(record: PanelRecord, again: PanelRecord) -> Part:
    counts = f"{record.bars:,} bars"
    if record.bars != again.bars:
        counts += f" then, {again.bars:,} now"
    return _compared("rows", record.bars_digest, again.bars_digest, counts)


def _panel_part(record: PanelRecord, again: PanelRecord) -> Part:
    apart = {"dataset_run_id", "bars", "bars_digest", "params", "build_environment"}
    files = {"digest", "location"}
    names = [field.name for field in fields(PanelRecord) if field.name not in apart | files]
    differing = [name for name in names if getattr(record, name) != getattr(again, name)]
    if differing:
        return Part("panel", False, f"other {', '.join(differing).replace('_', ' ')}")
    shape = f"{len(record.tickers)} tickers, {len(record.features)} features"
    return _compared("panel", record.digest, again.digest, shape)


def _scalers_part(stored: Mapping[str, str] | None, again: Fitted) -> Part:
    if stored is None:
        return Part("scalers", True, "not made yet")
    return _compared("scalers", stored["digest"], again.digest, stored["kind"])


def _segments_part(stored: Sequence[SegmentRecord], laid: Sequence[SegmentRecord]) -> Part:
    if not stored:
        return Part("segments", True, "not made yet")
    then, now = ({segment.set_name: segment for segment in these} for these in (stored, laid))
    spans = [
        name
        for name in {**then, **now}
        if name not in then or name not in now or _span(then[name]) != _span(now[name])
    ]
    if spans:
        return Part("segments", False, f"other sessions in {', '.join(spans)}")
    return _compared("segments", stored[0].digest, laid[0].digest, ", ".join(then))


def _span(segment: SegmentRecord) -> dict[str, Any]:
    """Everything but the digest, which all segments share."""
    return asdict(segment) | {"digest": ""}


def _compared(name: str, then: str, now: str, told: str) -> Part:
    if then == now:
        return Part(name, True, f"{told}, digest {then[:12]}…")
    return Part(name, False, f"{told}: digest {then[:12]}… then, {now[:12]}… now")


def _file_part(arrays: ArrayStore, location: str) -> Part:
    """Whether a file is there and has the content that its name says."""
    try:
        digest = arrays.digest(location)
    except StockAssetsError as error:
        return Part("file", False, error.problem)
    if digest != PurePosixPath(location).stem:
        return Part("file", False, f"{location} is damaged: its content is not what its name says")
    return Part("file", True, location)


def _changes(engine: Engine, record: PanelRecord, first: date) -> list[str]:
    """Say what has changed since a dataset was made, the likeliest reason first."""
    revised = [
        "{ticker} {session}: {field} revised from {old_value:g} to {new_value:g} "
        "on {revised_at:%Y-%m-%d}".format(**row)
        for row in revised_since(engine, record)
    ]
    added = [
        "{ticker} {session}: bar stored on {fetched_at:%Y-%m-%d}".format(**row)
        for row in bars_stored_since(engine, record, first)
    ]
    renamed = [
        "{old_ticker} renamed to {new_ticker} on {applied_at:%Y-%m-%d}".format(**row)
        for row in renamed_since(engine, record)
    ]
    return [
        *renamed,
        *truncate(revised, _MOST_TOLD),
        *truncate(added, _MOST_TOLD),
        *_other_makers(record),
    ]


def _other_makers(record: PanelRecord) -> list[str]:
    if record.build_environment is None:
        return ["what it was made with was not recorded"]
    return differences(record.build_environment, build_environment())
