"""Rebuild a dataset from the rows that it read and compare it with its record, part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Engine

from stock_assets.core.digests import short
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import build_environment, differences
from stock_assets.core.text import truncate
from stock_assets.datasets.build import (
    FittedScalers,
    build_scalers,
    build_segments,
    recorded_params,
)
from stock_assets.datasets.rebuild import rebuild_panel
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

_LISTED_CHANGES = 10
_NOT_RECORDED = "no recorded change: rows were edited outside the store, or this machine differs"
_NOT_COMPARED = {
    "dataset_run_id",
    *("bars", "bars_digest"),  # the part "rows"
    *("digest", "location"),
    *("params", "build_environment"),
}


@dataclass(frozen=True)
class Part:
    """Whether one part of a rebuilt dataset equals its record, with a message for people."""

    name: str
    equal: bool
    message: str


@dataclass(frozen=True)
class Verification:
    """The comparison of a dataset with its record, and recorded changes since it was built.

    ``known_at`` is the moment whose rows were read; None: they were read as they are stored now.
    """

    dataset_run_id: str
    as_of_session: date
    known_at: datetime | None
    parts: list[Part]
    changes: list[str]

    @property
    def equal(self) -> bool:
        """Whether every part equals its record."""
        return all(part.equal for part in self.parts)


def verify(engine: Engine, arrays: ArrayStore, dataset_id: str) -> Verification:
    """Rebuild a dataset and compare every digest; nothing is written.

    It is rebuilt from the rows known at the recorded moment, which later changes do not alter;
    where that was not recorded, from the rows stored now.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    arrays : ArrayStore
        The store of the dataset's file, whose content is checked too.
    dataset_id : str
        A dataset with a panel. Parts that are not built yet count as equal.

    Raises
    ------
    StockAssetsError
        There is no such dataset, or another version of this package stored it.
    """
    record = load_panel(engine, dataset_id)
    recorded_params(record)
    first = record.first_session
    try:
        rebuilt = _rebuild(engine, record)
    except StockAssetsError as error:
        parts = [Part("rows", False, error.problem)]
    else:
        first = min(first, rebuilt.panel.first_session)
        parts = [
            _compare_rows(record, rebuilt.panel),
            _compare_panels(record, rebuilt.panel),
            _compare_scalers(scaler_summary(engine, dataset_id), rebuilt.scalers),
            _compare_segments(segments_of(engine, dataset_id), rebuilt.segments),
        ]
    environment = _changed_environment(record)
    later = _later_changes(engine, record, first)
    changes = [*later, *environment]
    # What was known at a moment does not change, so that a later change explains nothing.
    explained = environment if record.known_at is not None else changes
    if not explained and not all(part.equal for part in parts):
        changes = [_NOT_RECORDED, *changes]
    parts.append(_check_file(arrays, record.location))
    return Verification(dataset_id, record.as_of_session, record.known_at, parts, changes)


@dataclass(frozen=True)
class _Rebuilt:
    panel: PanelRecord
    scalers: FittedScalers
    segments: list[SegmentRecord]


def _rebuild(engine: Engine, record: PanelRecord) -> _Rebuilt:
    with tempfile.TemporaryDirectory() as folder:
        arrays = ArrayStore(folder)
        panel = rebuild_panel(engine, record, arrays)
        scalers = build_scalers(panel, arrays)
        segments = build_segments(panel, scalers.features, scalers.target, arrays)
    return _Rebuilt(panel, scalers, segments)


def _compare_rows(record: PanelRecord, rebuilt: PanelRecord) -> Part:
    counts = f"{record.bars:,} bars"
    if record.bars != rebuilt.bars:
        counts += f" then, {rebuilt.bars:,} now"
    return _compare("rows", record.bars_digest, rebuilt.bars_digest, counts)


def _compare_panels(record: PanelRecord, rebuilt: PanelRecord) -> Part:
    names = [field.name for field in fields(PanelRecord) if field.name not in _NOT_COMPARED]
    differing = [name for name in names if getattr(record, name) != getattr(rebuilt, name)]
    if differing:
        return Part("panel", False, f"differs in {', '.join(differing).replace('_', ' ')}")
    shape = f"{len(record.tickers)} tickers, {len(record.features)} features"
    return _compare("panel", record.digest, rebuilt.digest, shape)


def _compare_scalers(stored: Mapping[str, str] | None, rebuilt: FittedScalers) -> Part:
    if stored is None:
        return Part("scalers", True, "not built yet")
    return _compare("scalers", stored["digest"], rebuilt.digest, stored["kind"])


def _compare_segments(stored: Sequence[SegmentRecord], rebuilt: Sequence[SegmentRecord]) -> Part:
    if not stored:
        return Part("segments", True, "not built yet")
    then, now = ({segment.set_name: _span(segment) for segment in s} for s in (stored, rebuilt))
    differing = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if differing:
        return Part("segments", False, f"sessions differ in {', '.join(differing)}")
    return _compare("segments", stored[0].digest, rebuilt[0].digest, ", ".join(then))


def _span(segment: SegmentRecord) -> dict[str, Any]:
    """Return every field but the digest, which all segments share."""
    return asdict(segment) | {"digest": ""}


def _compare(name: str, then: str, now: str, content: str) -> Part:
    if then == now:
        return Part(name, True, f"{content}, digest {then[:12]}…")
    return Part(name, False, f"{content}: digest {then[:12]}… then, {now[:12]}… now")


def _check_file(arrays: ArrayStore, location: str) -> Part:
    """Compare a file's content with the digest in its name."""
    try:
        digest = arrays.digest(location)
    except StockAssetsError as error:
        return Part("file", False, error.problem)
    if digest != PurePosixPath(location).stem:
        found = f"its SHA-256 is {short(digest)}, not {short(PurePosixPath(location).stem)}"
        return Part("file", False, f"{location} is damaged: {found}")
    return Part("file", True, f"digest {short(digest)}, as its name says")


def _later_changes(engine: Engine, record: PanelRecord, first: date) -> list[str]:
    """Describe the changes of rows since a dataset was built, the likeliest cause first."""
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
    return [*renamed, *truncate(revised, _LISTED_CHANGES), *truncate(added, _LISTED_CHANGES)]


def _changed_environment(record: PanelRecord) -> list[str]:
    """Describe how the present build environment differs from a dataset's."""
    built = record.build_environment
    if built is None:
        return ["the build environment was not recorded"]
    return differences(built, build_environment())
