"""`stock-assets dataset`: what a dataset was made from, and whether it still is that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets.core.fingerprints import build_environment
from stock_assets_tests.cli.conftest import Installation

pytestmark = pytest.mark.slow

IBM = "ticker = 'IBM' AND session = '2012-03-01'"


@pytest.fixture
def dataset(demoed: Installation) -> str:
    """The dataset that the demo made."""
    first: str = demoed.value(
        "SELECT dataset_run_id FROM model_promotions WHERE candidate_version = 1"
    )
    return first


@pytest.fixture
def unharmed(demoed: Installation) -> Iterator[Installation]:
    """The demo; the test leaves every table as it was."""
    before = demoed.tables()
    yield demoed
    assert demoed.tables() == before


def execute(installation: Installation, *statements: str) -> None:
    engine = create_engine(installation.address("stock_assets"), poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            assert connection.execute(text(statement)).rowcount == 1


@contextmanager
def revised_bar(installation: Installation) -> Iterator[None]:
    """A bar whose volume its source doubled, as ingestion notes it."""
    execute(
        installation,
        f"UPDATE raw_stock_data SET volume = volume * 2 WHERE {IBM}",
        "INSERT INTO price_revisions (ticker, session, field, old_value, new_value) "
        f"SELECT ticker, session, 'volume', volume / 2, volume FROM raw_stock_data WHERE {IBM}",
    )
    yield
    execute(
        installation,
        f"DELETE FROM price_revisions WHERE {IBM} AND field = 'volume'",
        f"UPDATE raw_stock_data SET volume = volume / 2 WHERE {IBM}",
    )


def as_json(installation: Installation, *arguments: str) -> Any:
    return json.loads(installation.succeed("dataset", *arguments, "--json"))


def test_the_demos_dataset_is_what_it_says(unharmed: Installation, dataset: str):
    printed = unharmed.succeed("dataset", "verify", dataset)

    assert printed.startswith(f"Dataset {dataset}, as of 2012-12-31\n")
    assert "Equal:" in printed
    assert "✗" not in printed
    for part in ("rows", "panel", "scalers", "segments"):
        assert f"✓ {part}" in printed
    assert printed.count("✓ file") == 1


def test_a_dataset_is_verified_with_its_own_parameters(unharmed: Installation, dataset: str):
    path = unharmed.project / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("history_sessions: 700", "history_sessions: 650"))
    assert path.read_text() != before
    try:
        assert as_json(unharmed, "verify", dataset)["equal"]
    finally:
        path.write_text(before)


def test_a_revised_bar_is_named(unharmed: Installation, dataset: str):
    with revised_bar(unharmed):
        finished = unharmed.run("dataset", "verify", dataset)

    assert (finished.returncode, finished.stderr) == (1, "")
    assert "✗ rows" in finished.stdout
    assert "Not equal" in finished.stdout
    assert "IBM 2012-03-01: volume revised from " in finished.stdout


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path, content: path.unlink(), "is missing from"),
        (lambda path, content: path.write_bytes(content[:-1]), "is damaged"),
    ],
)
def test_a_spoilt_array_file_is_named(
    unharmed: Installation, dataset: str, harm: Callable[..., None], told: str
):
    location = unharmed.value(
        f"SELECT location FROM processed_feature_data WHERE dataset_run_id = '{dataset}'"
    )
    path = unharmed.home / "arrays" / location
    content = path.read_bytes()
    harm(path, content)
    try:
        finished = unharmed.run("dataset", "verify", dataset)
        shown = as_json(unharmed, "show", dataset)
    finally:
        path.write_bytes(content)

    assert finished.returncode == 1
    assert finished.stdout.count("✗") == 1
    (line,) = [line for line in finished.stdout.splitlines() if "✗" in line]
    assert location in line
    assert told in line
    assert shown["file"]["location"] == location
    assert (shown["file"]["bytes"] is None) == (told == "is missing from")


def test_an_exported_dataset_is_the_panel_with_its_labels(
    unharmed: Installation, dataset: str, tmp_path: Path
):
    target = tmp_path / "panel.parquet"
    printed = unharmed.succeed("dataset", "export", dataset, str(target))

    frame = pd.read_parquet(target)
    shown = as_json(unharmed, "show", dataset)
    assert f"{len(frame):,} rows: {target}" in printed
    assert list(frame.columns) == ["session", "ticker", *shown["features"], "target", "valid"]
    assert sorted(frame["ticker"].unique()) == shown["tickers"]
    assert frame["session"].max() == pd.Timestamp(shown["last_session"])
    assert np.isfinite(frame.loc[frame["valid"], shown["features"]]).all(axis=None)
    assert frame.loc[frame["session"] == frame["session"].max(), "target"].isna().all()
    assert list(tmp_path.iterdir()) == [target]


def test_an_export_to_nowhere_says_what_to_do(unharmed: Installation, dataset: str, tmp_path: Path):
    finished = unharmed.run("dataset", "export", dataset, str(tmp_path / "no" / "panel.parquet"))
    assert finished.returncode == 1
    assert "there is no folder" in finished.stderr


def test_another_library_version_is_told(unharmed: Installation, dataset: str):
    column = f"processed_feature_data SET build_environment = %s WHERE dataset_run_id = '{dataset}'"
    stored = unharmed.value(
        "SELECT build_environment::text FROM processed_feature_data "
        f"WHERE dataset_run_id = '{dataset}'"
    )
    other = build_environment()
    other["libraries"]["numpy"] = "1.0.0"
    execute(unharmed, "UPDATE " + column % f"'{json.dumps(other)}'".replace(":", r"\:"))
    try:
        verified = unharmed.succeed("dataset", "verify", dataset)
        shown = unharmed.succeed("dataset", "show", dataset)
    finally:
        before = "NULL" if stored is None else f"'{stored}'".replace(":", r"\:")
        execute(unharmed, "UPDATE " + column % before)

    told = f"numpy 1.0.0 then, {np.__version__} now"
    assert told in verified
    assert "Equal:" in verified
    assert told in shown


def test_show_prints_what_the_tables_hold(unharmed: Installation, dataset: str):
    where = f"WHERE dataset_run_id = '{dataset}'"
    printed = "".join(unharmed.succeed("dataset", "show", dataset).split())
    found = as_json(unharmed, "show", dataset)

    ((first, bars, rows, panel),) = unharmed.rows(
        f"SELECT first_session, bars, bars_digest, digest FROM processed_feature_data {where}"
    )
    assert (found["first_session"], found["bars"]) == (str(first), bars)
    assert (found["digests"]["rows"], found["digests"]["panel"]) == (rows, panel)
    assert found["tickers"] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    segments = unharmed.rows(
        "SELECT set_name, last_session, purge_sessions, digest FROM scaled_feature_sets "
        f"{where} ORDER BY first_position"
    )
    assert [segment["set_name"] for segment in found["segments"]] == [s[0] for s in segments]
    assert found["digests"]["segments"] == segments[0][3]
    assert f"{segments[0][2]}sessionsbetweentwosegments" in printed
    decided = unharmed.rows(
        "SELECT candidate_version, decision->>'outcome' FROM model_promotions "
        f"{where} ORDER BY decided_at"
    )
    assert found["candidate_versions"] == sorted(version for version, _ in decided)
    assert found["promotion"]["decision"]["outcome"] == decided[-1][1]
    assert found["file"]["bytes"] > 0
    reason = found["promotion"]["reason"]
    for told in (rows, panel, str(first), reason.replace(" ", ""), "scalersstandard"):
        assert told in printed


def test_list_names_every_dataset_newest_first(unharmed: Installation, dataset: str):
    ids = [
        row[0]
        for row in unharmed.rows(
            "SELECT dataset_run_id FROM processed_feature_data ORDER BY dataset_run_id DESC"
        )
    ]
    printed = unharmed.succeed("dataset", "list")

    assert [row["dataset_run_id"] for row in as_json(unharmed, "list")] == ids
    assert [i for line in printed.splitlines() for i in ids if i in line] == ids
    (line,) = [line for line in printed.splitlines() if dataset in line]
    assert "2012-12-31" in line
    assert "v1 promoted" in line


@pytest.mark.parametrize("command", ["show", "verify"])
def test_an_unknown_dataset_is_told_the_newest(unharmed: Installation, command: str):
    unknown = unharmed.run("dataset", command, "20121231_000001")

    assert unknown.returncode == 1
    newest = unharmed.value("SELECT max(dataset_run_id) FROM processed_feature_data")
    (line,) = unknown.stderr.splitlines()
    assert line.startswith("error: dataset 20121231_000001 has no row in processed_feature_data. ")
    assert newest in line
