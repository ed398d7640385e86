"""The walk of the whole record: a changed file or a missing version is found and named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from stock_assets.defs.metadata import known_heads
from stock_assets.pipeline.verification import check_arrays, check_models, find_faults
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.model_files import BUNDLE_PATH
from stock_assets.storage.record import head
from stock_assets.storage.record_faults import Fault, KnownHead
from stock_assets_tests.conftest import Loop
from stock_assets_tests.tampering import tampering

EDITS = 1_000
SHOWN_EDITS = 6


def arrays(loop: Loop) -> ArrayStore:
    return ArrayStore(loop.platform.locations.arrays_url)


def registry(loop: Loop) -> Registry:
    return Registry(loop.platform.params.tracking)


def walk(loop: Loop, heads: list[KnownHead] | None = None) -> list[Fault]:
    known = known_heads(loop.platform.instance) if heads is None else heads
    return list(find_faults(loop.platform.engine, arrays(loop), registry(loop), known))


@contextmanager
def edited(path: Path, place: int, value: int) -> Iterator[None]:
    """A file with one byte changed."""
    before = path.read_bytes()
    changed = bytearray(before)
    changed[place % len(before)] ^= value
    path.write_bytes(changed)
    yield
    path.write_bytes(before)


def edits(files: list[Path], count: int) -> Iterator[tuple[Path, int, int]]:
    """Single-byte edits at random places of random files."""
    chance = random.Random(1)
    for _ in range(count):
        yield chance.choice(files), chance.getrandbits(40), chance.randint(1, 255)


def test_an_installation_holds(loop: Loop) -> None:
    assert walk(loop) == []


def test_materializations_know_the_newest_link(loop: Loop) -> None:
    newest, heads = head(loop.platform.engine), known_heads(loop.platform.instance)
    assert newest is not None
    assert heads
    assert max(known.link for known in heads) <= newest.number


def test_a_link_that_a_run_has_seen_is_missed(loop: Loop) -> None:
    newest = head(loop.platform.engine)
    assert newest is not None
    (fault,) = walk(loop, [KnownHead(newest.number + 1, "f" * 64, "run", "predictions 2013-02-01")])
    assert (fault.part, fault.link) == ("runs", newest.number + 1)


Check = Callable[[Connection], Iterator[Fault]]


def check_edits(loop: Loop, check: Check, files: list[Path], count: int) -> None:
    """Every edit is found, and the fault names the file."""
    with loop.platform.engine.connect() as connection:
        for path, place, value in edits(files, count):
            with edited(path, place, value):
                found = list(check(connection))
            assert len(found) == 1, (path, place, value)
            assert path.name in found[0].message
        assert list(check(connection)) == []


@pytest.mark.parametrize("count", [SHOWN_EDITS, pytest.param(EDITS, marks=pytest.mark.long)])
def test_an_edited_byte_of_an_array_file_is_found(loop: Loop, count: int) -> None:
    with loop.platform.engine.connect() as connection:
        named = connection.scalars(text("SELECT location FROM processed_feature_data")).all()
    files = [Path(loop.platform.locations.arrays_url) / location for location in named]
    check_edits(loop, lambda c: check_arrays(c, arrays(loop)), files, count)


@pytest.mark.parametrize("count", [SHOWN_EDITS, pytest.param(EDITS, marks=pytest.mark.long)])
def test_an_edited_byte_of_a_bundle_is_found(loop: Loop, count: int) -> None:
    # Other models of this process's artifacts are not those of this registry.
    folders = [registry(loop)._folder(model.version) for model in registry(loop).versions()]
    files = [file for folder in folders for file in sorted((folder / BUNDLE_PATH).iterdir())]
    assert {file.name for file in files} == {"bundle.json", "network.safetensors"}
    check_edits(loop, lambda c: check_models(c, registry(loop)), files, count)


def test_a_missing_array_file_is_found(loop: Loop, tmp_path: Path) -> None:
    with loop.platform.engine.connect() as connection:
        found = list(check_arrays(connection, ArrayStore(str(tmp_path))))
    assert {fault.part for fault in found} == {"arrays"}
    assert all("missing" in fault.message for fault in found)


def test_a_version_that_is_not_registered_is_found(loop: Loop) -> None:
    with tampering(loop.platform.engine) as connection:
        connection.execute(text("UPDATE predictions SET model_version = 99"))
        (fault,) = check_models(connection, registry(loop))
        connection.rollback()
    assert (fault.table, fault.file) == ("predictions", "version 99")
