"""`stock-assets dataset`: the inputs of a dataset, and whether a rebuild equals it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets.core.fingerprints import build_environment
from stock_assets.storage.prices import read_bars
from stock_assets.storage.record import head
from stock_assets_tests.cli.conftest import Command, Installation
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import tampering

IBM = "ticker = 'IBM' AND session = '2012-03-01'"


DATASET = "20121231_120000"


@pytest.fixture(scope="module")
def tables_before(looped: Installation) -> dict[str, str]:
    """Digests of all tables before the first test of this module."""
    return looped.tables()


@pytest.fixture(autouse=True)
def _every_table_is_left_as_it_was(
    looped: Installation, tables_before: dict[str, str]
) -> Iterator[None]:
    yield
    assert looped.tables() == tables_before


def execute(installation: Installation, *statements: str) -> None:
    engine = create_engine(installation.address("stock_assets"), poolclass=NullPool)
    with tampering(engine) as connection:
        for statement in statements:
            assert connection.execute(text(statement)).rowcount == 1


@contextmanager
def revised_bar(installation: Installation) -> Iterator[None]:
    """A bar whose volume its source doubled; the record is restored afterwards."""
    engine = create_engine(installation.address("stock_assets"), poolclass=NullPool)
    newest, day = head(engine), date(2012, 3, 1)
    assert newest is not None
    execute(installation, f"CREATE TABLE kept AS SELECT * FROM raw_stock_data WHERE {IBM}")
    bar = read_bars(engine, day, day, ["IBM"])
    store_bars(engine, bar.assign(volume=bar["volume"] * 2))
    yield
    execute(
        installation,
        f"DELETE FROM price_revisions WHERE {IBM}",
        f"DELETE FROM raw_stock_data_history WHERE link > {newest.number}",
        f"DELETE FROM record_links WHERE link > {newest.number}",
        f"DELETE FROM raw_stock_data WHERE {IBM}",
        "INSERT INTO raw_stock_data SELECT * FROM kept",
    )
    with tampering(engine) as connection:
        connection.execute(text("DROP TABLE kept"))


def as_json(command: Command, *words: str) -> Any:
    return json.loads(command("dataset", *words, "--json").stdout)


def test_the_loops_dataset_is_equal_to_its_rebuild(command: Command):
    finished = command("dataset", "verify", DATASET)

    assert (finished.returncode, finished.stderr) == (0, "")
    assert f"Dataset {DATASET}, as of 2012-12-31" in finished.stdout
    assert "✗" not in finished.stdout
    for part in ("file", "rows", "panel", "scalers", "segments"):
        assert f"✓ {part}" in finished.stdout


def test_a_dataset_is_verified_with_its_own_parameters(command: Command, looped: Installation):
    path = looped.project / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("history_sessions: 700", "history_sessions: 650"))
    assert path.read_text() != before
    try:
        assert as_json(command, "verify", DATASET)["equal"]
    finally:
        path.write_text(before)


def test_a_revised_bar_is_named_and_the_dataset_stays_equal(command: Command, looped: Installation):
    with revised_bar(looped):
        finished = command("dataset", "verify", DATASET)

    assert (finished.returncode, finished.stderr) == (0, "")
    assert "✗" not in finished.stdout
    assert "IBM 2012-03-01: volume revised from" in finished.stdout


@pytest.mark.parametrize(
    "damage",
    [lambda path, content: path.unlink(), lambda path, content: path.write_bytes(content[:-1])],
    ids=["missing", "damaged"],
)
def test_a_missing_or_damaged_array_file_is_named(
    command: Command,
    looped: Installation,
    damage: Callable[..., None],
    request: pytest.FixtureRequest,
):
    location = looped.value(
        f"SELECT location FROM processed_feature_data WHERE dataset_run_id = '{DATASET}'"
    )
    path = looped.home / "arrays" / location
    content = path.read_bytes()
    damage(path, content)
    try:
        finished = command("dataset", "verify", DATASET)
        shown = as_json(command, "show", DATASET)
    finally:
        path.write_bytes(content)

    assert finished.returncode == 1
    (line,) = [line for line in finished.stdout.splitlines() if "✗" in line]
    assert location in line
    assert request.node.callspec.id in line
    assert shown["file"]["location"] == location
    assert request.node.callspec.id in shown["file"]["problem"]


def test_an_exported_dataset_is_the_panel_with_its_labels(command: Command, tmp_path: Path):
    target = tmp_path / "panel.parquet"
    printed = command("dataset", "export", DATASET, str(target)).stdout

    frame = pd.read_parquet(target)
    shown = as_json(command, "show", DATASET)
    assert f"{len(frame):,} rows" in printed
    assert list(frame.columns) == ["session", "ticker", *shown["features"], "target", "valid"]
    assert sorted(frame["ticker"].unique()) == shown["tickers"]
    assert frame["session"].max() == pd.Timestamp(shown["last_session"])
    assert np.isfinite(frame.loc[frame["valid"], shown["features"]]).all(axis=None)
    assert frame.loc[frame["session"] == frame["session"].max(), "target"].isna().all()
    assert list(tmp_path.iterdir()) == [target]


def test_an_export_to_a_missing_folder_names_it(command: Command, tmp_path: Path):
    line = command("dataset", "export", DATASET, str(tmp_path / "no" / "panel.parquet")).error
    assert str(tmp_path / "no") in line


def test_another_library_version_is_shown(command: Command, looped: Installation):
    column = f"processed_feature_data SET build_environment = %s WHERE dataset_run_id = '{DATASET}'"
    stored = looped.value(
        "SELECT build_environment::text FROM processed_feature_data "
        f"WHERE dataset_run_id = '{DATASET}'"
    )
    other = build_environment()
    other["libraries"]["numpy"] = "1.0.0"
    execute(looped, "UPDATE " + column % f"'{json.dumps(other)}'".replace(":", r"\:"))
    try:
        verified = command("dataset", "verify", DATASET)
        shown = command("dataset", "show", DATASET)
    finally:
        before = "NULL" if stored is None else f"'{stored}'".replace(":", r"\:")
        execute(looped, "UPDATE " + column % before)

    assert verified.returncode == 0
    for printed in (verified.stdout, shown.stdout):
        assert re.search(rf"numpy 1\.0\.0 .*{re.escape(np.__version__)}", printed)


def test_show_prints_what_the_tables_hold(command: Command, looped: Installation):
    where = f"WHERE dataset_run_id = '{DATASET}'"
    printed = "".join(command("dataset", "show", DATASET).stdout.split())
    found = as_json(command, "show", DATASET)

    ((first, bars, rows, panel),) = looped.rows(
        f"SELECT first_session, bars, bars_digest, digest FROM processed_feature_data {where}"
    )
    assert (found["first_session"], found["bars"]) == (str(first), bars)
    assert (found["digests"]["rows"], found["digests"]["panel"]) == (rows, panel)
    assert found["tickers"] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    segments = looped.rows(
        "SELECT set_name, last_session, purge_sessions, digest FROM scaled_feature_sets "
        f"{where} ORDER BY first_position"
    )
    assert [segment["set_name"] for segment in found["segments"]] == [s[0] for s in segments]
    assert found["digests"]["segments"] == segments[0][3]
    decided = looped.rows(
        "SELECT candidate_version, decision->>'outcome' FROM model_promotions "
        f"{where} ORDER BY decided_at"
    )
    assert found["candidate_versions"] == sorted(version for version, _ in decided)
    assert found["promotion"]["decision"]["outcome"] == decided[-1][1]
    assert found["file"]["bytes"] > 0
    reason = found["promotion"]["reason"]
    for fact in (rows, panel, str(first), str(segments[0][2]), "".join(reason.split())):
        assert fact in printed


def test_list_names_every_dataset_newest_first(command: Command, looped: Installation):
    ids = [
        row[0]
        for row in looped.rows(
            "SELECT dataset_run_id FROM processed_feature_data ORDER BY dataset_run_id DESC"
        )
    ]
    printed = command("dataset", "list").stdout

    assert [row["dataset_run_id"] for row in as_json(command, "list")] == ids
    assert [i for line in printed.splitlines() for i in ids if i in line] == ids
    (line,) = [line for line in printed.splitlines() if DATASET in line]
    assert "2012-12-31" in line
    assert "v1 promoted" in line
