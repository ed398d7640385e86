"""The walk of the whole record: a changed file or a missing version is found and named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets.core.errors import StockAssetsError
from stock_assets.defs.metadata import RECORD_DIGEST, RECORD_LINK, known_heads
from stock_assets.pipeline.verification import (
    accept_restore,
    check_arrays,
    check_models,
    find_faults,
)
from stock_assets.registry import TRACKING_VARIABLE, Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.model_files import BUNDLE_PATH
from stock_assets.storage.record import head
from stock_assets.storage.record_check import record_steps
from stock_assets.storage.record_faults import Fault, KnownHead
from stock_assets_tests.conftest import Loop, throw_away_database
from stock_assets_tests.storage.examples import bars, store_bars
from stock_assets_tests.tampering import tampering

EDITS = 1_000
SHOWN_EDITS = 6


def arrays(loop: Loop) -> ArrayStore:
    return ArrayStore(loop.platform.locations.arrays_url)


def registry(loop: Loop) -> Registry:
    return Registry(loop.platform.params.tracking)


def seen_heads(loop: Loop) -> list[KnownHead]:
    """What the runs of the loop saw; events without a run are of sensors of other tests' stores."""
    return [known for known in known_heads(loop.platform.instance) if known.run_id]


def walk(loop: Loop, heads: list[KnownHead] | None = None) -> list[Fault]:
    known = seen_heads(loop) if heads is None else heads
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
    newest, heads = head(loop.platform.engine), seen_heads(loop)
    assert newest is not None
    assert heads
    assert max(known.link for known in heads) <= newest.number


@pytest.mark.parametrize("asset", ["candidate_model", "production_model"])
def test_materializations_that_append_to_the_record_name_its_head(loop: Loop, asset: str) -> None:
    event = loop.platform.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    assert {RECORD_LINK, RECORD_DIGEST} <= event.asset_materialization.metadata.keys()


def test_a_link_that_a_run_has_seen_is_missed(loop: Loop) -> None:
    newest = head(loop.platform.engine)
    assert newest is not None
    (fault,) = walk(
        loop, [KnownHead(newest.number + 1, "f" * 64, "run", "predictions", "2013-02-01")]
    )
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


@contextmanager
def edited_mlflow(loop: Loop, statement: str, undo: str) -> Iterator[None]:
    """MLflow's database with one change, which is undone."""
    engine = create_engine(loop.platform.variables[TRACKING_VARIABLE], poolclass=NullPool)
    for sql in (statement, undo):
        with engine.begin() as connection:
            assert connection.execute(text(sql)).rowcount == 1
        if sql == statement:
            yield


def model_faults(loop: Loop) -> list[Fault]:
    with loop.platform.engine.connect() as connection:
        return list(check_models(connection, registry(loop)))


def test_an_edited_run_of_a_version_is_found(loop: Loop) -> None:
    model = registry(loop).versions()[-1]
    where = f"WHERE name = '{registry(loop).model_name}' AND version = {model.version}"
    update = "UPDATE model_versions SET run_id = '{0}' " + where
    edits = update.format("f" * 32), update.format(model.mlflow_run_id)
    with edited_mlflow(loop, *edits):
        found = model_faults(loop)
    assert {fault.file for fault in found} == {f"version {model.version}"}
    # The file beside the model and the record are two witnesses.
    assert found[0].table is None
    assert "production_history" in {fault.table for fault in found}


@pytest.mark.parametrize("name", ["refit_of", "as_of_session", "digest", "sha256:bundle.json"])
def test_an_edited_tag_of_a_version_is_found(loop: Loop, name: str) -> None:
    model = registry(loop).versions()[-1]
    before = registry(loop).tags(model.version).get(name)
    key = f"name = '{registry(loop).model_name}' AND version = {model.version} AND key = '{name}'"
    change = "UPDATE model_version_tags SET value = '{0}' WHERE " + key
    edits = change.format("2013-01-02" if name.startswith("as_of") else "7"), change.format(before)
    if before is None:
        columns = f"'{registry(loop).model_name}', {model.version}, '{name}', '7'"
        edits = (
            f"INSERT INTO model_version_tags (name, version, key, value) VALUES ({columns})",
            f"DELETE FROM model_version_tags WHERE {key}",
        )
    with edited_mlflow(loop, *edits):
        found = model_faults(loop)
    assert {fault.file for fault in found} == {f"version {model.version}"}
    assert model_faults(loop) == []


def test_an_edit_of_a_version_and_of_its_description_is_found(loop: Loop) -> None:
    model = registry(loop).versions()[-1]
    path = registry(loop)._folder(model.version) / "MLmodel"
    content = path.read_text()
    path.write_text(content.replace(model.mlflow_run_id, "f" * 32))
    update = "UPDATE model_versions SET run_id = '{0}' WHERE run_id = '{1}' AND version = " + str(
        model.version
    )
    edits = ("f" * 32, model.mlflow_run_id), (model.mlflow_run_id, "f" * 32)
    with edited_mlflow(loop, *(update.format(*edit) for edit in edits)):
        found = model_faults(loop)
    path.write_text(content)
    assert {fault.table for fault in found} >= {"production_history", "predictions"}


def test_versions_of_an_earlier_model_name_are_not_missed(loop: Loop) -> None:
    tracking = loop.platform.params.tracking.model_copy(update={"model_name": "Another"})
    with loop.platform.engine.connect() as connection:
        assert list(check_models(connection, Registry(tracking))) == []


def test_a_version_that_is_not_registered_is_found(loop: Loop) -> None:
    with tampering(loop.platform.engine) as connection:
        connection.execute(text("UPDATE predictions SET model_version = 99"))
        (fault,) = check_models(connection, registry(loop))
        connection.rollback()
    assert (fault.table, fault.file) == ("predictions", "version 99")


@pytest.fixture
def restored(loop: Loop, engine: Engine) -> Iterator[tuple[Engine, list[KnownHead]]]:
    """A backup of a database, and what runs saw of the sessions stored after it was taken."""
    days = sorted(bars()["session"].unique())
    store_bars(engine, bars(days=[day.date() for day in days[:2]]))
    engine.dispose()  # a template may have no connection
    with throw_away_database(loop.platform, str(engine.url.database)) as url:
        heads = [seen(engine, "raw_prices 2013-01-03")]
        for day in days[2:4]:
            store_bars(engine, bars(days=[day.date()]))
            heads.append(seen(engine, f"raw_prices {day:%Y-%m-%d}"))
        yield create_engine(url, poolclass=NullPool), heads


def seen(engine: Engine, asset: str) -> KnownHead:
    newest = head(engine)
    assert newest is not None
    return KnownHead(newest.number, newest.digest, "run", *asset.split())


def record_faults(engine: Engine, heads: list[KnownHead]) -> list[Fault]:
    with engine.connect() as connection:
        return [fault for step in record_steps(connection, heads) for fault in step.find()]


def test_an_older_backup_is_found_and_its_loss_is_accepted(
    restored: tuple[Engine, list[KnownHead]],
) -> None:
    engine, heads = restored
    (fault,) = record_faults(engine, heads)
    assert (fault.part, fault.link) == ("runs", heads[1].link)
    assert "2013-01-04" in fault.message
    assert "2013-01-07" in fault.message
    assert "2013-01-03" not in fault.message
    for known in heads[1:]:  # the lost sessions are run again
        store_bars(engine, bars(days=[date.fromisoformat(known.partitions)]))
        heads.append(seen(engine, str(known)))
    assert len(record_faults(engine, heads)) == 1
    assert accept_restore(engine, heads, "the disk failed") == heads[1:3]
    heads.append(seen(engine, "raw_prices 2013-01-08"))
    assert record_faults(engine, heads) == []
    with pytest.raises(StockAssetsError, match="every link"):
        accept_restore(engine, heads, "again")
