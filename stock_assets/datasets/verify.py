"""Rebuild a dataset from the rows that it read and compare it with its record, part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import Engine

from stock_assets.core.digests import short
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import build_environment, custom_names, differences
from stock_assets.core.text import truncate
from stock_assets.datasets.build import (
    FittedScalers,
    build_scalers,
    build_segments,
    recorded_params,
)
from stock_assets.datasets.differences import (
    arrays_difference,
    factors_difference,
    largest,
    scaler_difference,
)
from stock_assets.datasets.rebuild import rebuild_panel
from stock_assets.features.scaling import Scaler
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import (
    PanelRecord,
    SegmentRecord,
    bars_stored_since,
    load_panel,
    load_scalers,
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
    *("digest", "location", "adjustment_factors"),  # compared as values
    *("params", "build_environment"),
}


@dataclass(frozen=True)
class Part:
    """The comparison of one part of a rebuilt dataset with its record.

    Attributes
    ----------
    name : str
    equal : bool or None
        Whether it equals its record to the bit; None if there is nothing to compare with.
    message : str
        For people.
    difference : float or None
        Of computed values that are not equal, the largest difference: for a panel relative to the
        largest value of the feature, for scalers to the scale. None if they cannot be compared.
    """

    name: str
    equal: bool | None
    message: str
    difference: float | None = None


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
        """Whether no part differs from its record."""
        return all(part.equal is not False for part in self.parts)


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
        A dataset with a panel; other parts may not be built yet.

    Raises
    ------
    StockAssetsError
        There is no such dataset, or another version of this package stored it.
    """
    record = load_panel(engine, dataset_id)
    recorded_params(record)
    first = record.first_session
    try:
        rebuilt = _rebuild(engine, arrays, record)
    except StockAssetsError as error:
        parts = [Part("rows", False, error.problem)]
    else:
        first = min(first, rebuilt.panel.first_session)
        panel = _compare_panels(record, rebuilt)
        stored = scaler_summary(engine, dataset_id)
        fitted = None if stored is None else load_scalers(engine, dataset_id)
        scalers = _compare_scalers(stored, fitted, rebuilt.scalers)
        inputs = largest(0.0 if part.equal else part.difference for part in (panel, scalers))
        segments = segments_of(engine, dataset_id)
        parts = [
            _compare_rows(record, rebuilt.panel),
            panel,
            scalers,
            _compare_segments(segments, rebuilt.segments, inputs),
        ]
    environment = _changed_environment(record)
    later = _later_changes(engine, record, first)
    changes = [*later, *environment]
    # What was known at a moment does not change, so that a later change explains nothing.
    explained = environment if record.known_at is not None else changes
    if not explained and any(part.equal is False for part in parts):
        changes = [_NOT_RECORDED, *changes]
    parts.append(_check_file(arrays, record.location))
    return Verification(dataset_id, record.as_of_session, record.known_at, parts, changes)


@dataclass(frozen=True)
class _Rebuilt:
    panel: PanelRecord
    scalers: FittedScalers
    segments: list[SegmentRecord]
    difference: float | None
    """Largest difference of the values of the panel; None if they cannot be compared."""


def _rebuild(engine: Engine, arrays: ArrayStore, record: PanelRecord) -> _Rebuilt:
    with tempfile.TemporaryDirectory() as folder:
        scratch = ArrayStore(folder)
        panel = rebuild_panel(engine, record, scratch)
        scalers = build_scalers(panel, scratch)
        segments = build_segments(panel, scalers.features, scalers.target, scratch)
        difference: float | None = 0.0
        if panel.digest != record.digest:
            difference = _compare_arrays(arrays, record, scratch.read_tensors(panel.location))
    return _Rebuilt(panel, scalers, segments, difference)


def _compare_arrays(
    arrays: ArrayStore, record: PanelRecord, rebuilt: Mapping[str, NDArray[Any]]
) -> float | None:
    """Return the largest difference of the arrays of a panel; None if they cannot be compared."""
    try:
        stored = arrays.read_tensors(record.location)
    except StockAssetsError:
        return None
    return arrays_difference(stored, rebuilt)


def _compare_rows(record: PanelRecord, rebuilt: PanelRecord) -> Part:
    counts = f"{record.bars:,} bars"
    if record.bars != rebuilt.bars:
        counts += f" then, {rebuilt.bars:,} now"
    return _compare("rows", record.bars_digest, rebuilt.bars_digest, counts)


def _compare_panels(record: PanelRecord, rebuilt: _Rebuilt) -> Part:
    names = [field.name for field in fields(PanelRecord) if field.name not in _NOT_COMPARED]
    then, now = record.adjustment_factors, rebuilt.panel.adjustment_factors
    differing = [name for name in names if getattr(record, name) != getattr(rebuilt.panel, name)]
    if {t: f.keys() for t, f in then.items()} != {t: f.keys() for t, f in now.items()}:
        differing.append("adjustment_factors")
    if differing:
        return Part("panel", False, f"differs in {', '.join(differing).replace('_', ' ')}")
    shape = f"{len(record.tickers)} tickers, {len(record.features)} features"
    if then != now:
        difference = largest([factors_difference(then, now), rebuilt.difference])
        return Part("panel", False, f"{shape}: other adjustment factors", difference)
    return _compare("panel", record.digest, rebuilt.panel.digest, shape, rebuilt.difference)


def _compare_scalers(
    stored: Mapping[str, str] | None,
    fitted: tuple[dict[str, Any], dict[str, Any]] | None,
    rebuilt: FittedScalers,
) -> Part:
    if stored is None or fitted is None:
        return Part("scalers", None, "not built yet")
    then = [Scaler.from_dict(content) for content in fitted]
    pairs = zip(then, (rebuilt.features, rebuilt.target), strict=True)
    difference = largest(scaler_difference(*pair) for pair in pairs)
    return _compare("scalers", stored["digest"], rebuilt.digest, stored["kind"], difference)


def _compare_segments(
    stored: Sequence[SegmentRecord], rebuilt: Sequence[SegmentRecord], difference: float | None
) -> Part:
    """Compare segments; a digest of scaled values differs with the panel and the scalers."""
    if not stored:
        return Part("segments", None, "not built yet")
    then, now = ({segment.set_name: _span(segment) for segment in s} for s in (stored, rebuilt))
    differing = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if differing:
        return Part("segments", False, f"sessions differ in {', '.join(differing)}")
    names = ", ".join(then)
    return _compare("segments", stored[0].digest, rebuilt[0].digest, names, difference or None)


def _span(segment: SegmentRecord) -> dict[str, Any]:
    """Return every field but the digest, which all segments share."""
    return asdict(segment) | {"digest": ""}


def _compare(name: str, then: str, now: str, content: str, difference: float | None = None) -> Part:
    if then == now:
        return Part(name, True, f"{content}, digest {short(then)}")
    message = f"{content}: digest {short(then)} then, {short(now)} now"
    return Part(name, False, message, difference)


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
    return differences(built, build_environment(custom_names(built)))
