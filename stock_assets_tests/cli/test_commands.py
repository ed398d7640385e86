"""Other commands: in this process on the loop, and a few in a shell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from stock_assets_tests.cli.conftest import Command, Installation

BIN = Path(sys.executable).parent


def in_a_shell(installation: Installation, command: str) -> subprocess.CompletedProcess[str]:
    """Run a plain dagster command as README shows: after ``eval "$(stock-assets env)"``."""
    script = f'set -e; export PATH="{BIN}:$PATH"; eval "$(stock-assets env)"; {command}'
    return subprocess.run(
        ["bash", "-c", script],
        env=installation.environment,
        cwd=installation.project,
        capture_output=True,
        text=True,
        check=False,
    )


def forecasts_written_by_the_last_run(installation: Installation) -> list[date]:
    """Partitions of ``predictions`` that the newest run materialized."""
    found = installation.rows(
        "SELECT partition FROM event_logs WHERE asset_key = '[\"predictions\"]' "
        "AND dagster_event_type = 'ASSET_MATERIALIZATION' "
        "AND run_id = (SELECT run_id FROM runs ORDER BY id DESC LIMIT 1) ORDER BY partition",
        "dagster",
    )
    return [date.fromisoformat(row[0]) for row in found]


def test_the_daily_job_runs_by_a_plain_dg_command(demoed: Installation):
    before = demoed.tables()

    launched = in_a_shell(demoed, "dg launch --job daily --partition-range 2013-01-02...2013-01-04")

    assert launched.returncode == 0, launched.stderr
    assert demoed.run_statuses()[-1] == "SUCCESS"
    assert [day.day for day in forecasts_written_by_the_last_run(demoed)] == [2, 3, 4]
    assert demoed.tables() == before


@pytest.mark.long
def test_predictions_are_backfilled_by_a_plain_dagster_command(demoed: Installation):
    before = demoed.tables()

    launched = in_a_shell(
        demoed,
        "dagster asset materialize -m stock_assets.definitions --select predictions "
        "--partition-range 2013-01-10...2013-01-15",
    )

    assert launched.returncode == 0, launched.stderr
    assert demoed.run_statuses()[-1] == "SUCCESS"
    assert [day.day for day in forecasts_written_by_the_last_run(demoed)] == [10, 11, 14, 15]
    assert demoed.tables() == before


def test_env_writes_what_it_prints_to_a_private_file(command: Command, looped: Installation):
    printed = command("env", "--write").stdout

    file = looped.project / ".env"
    written = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert [line.split("=")[0].split() for line in printed.splitlines()] == [
        ["export", name] for name in written
    ]
    assert written["DAGSTER_HOME"].strip("'\"") == str(looped.project)
    assert written["STOCK_ASSETS_HOME"].strip("'\"") == str(looped.home)
    assert file.stat().st_mode & 0o077 == 0
    file.unlink()


def test_predict_shows_the_forecast_of_the_session_after(command: Command, looped: Installation):
    before = looped.tables()

    printed = command("predict", "--date", "2013-01-18").stdout

    assert "2013-01-22" in printed  # the 21st is a holiday
    stored = looped.rows(
        "SELECT ticker, predicted_price FROM predictions WHERE as_of_session = '2013-01-18'"
    )
    assert len(stored) == 5
    for ticker, price in stored:
        assert re.search(rf"{ticker} .*{price:,.2f}", printed)
    assert looped.tables() == before


def test_predict_goes_from_the_last_stored_session(command: Command, demoed: Installation):
    printed = command("predict", at=demoed).stdout

    assert "2013-03-04" in printed
    latest = json.loads((demoed.home / "forecasts" / "latest_predictions.json").read_text())
    assert latest["date"] == "2013-03-04"


def test_backfill_snaps_to_sessions(command: Command, looped: Installation):
    before = looped.tables()

    finished = command("backfill", "predictions", "--from", "2013-01-19", "--to", "2013-01-27")

    assert finished.returncode == 0, finished.stderr
    assert [day.day for day in forecasts_written_by_the_last_run(looped)] == [22, 23, 24, 25]
    assert looped.tables() == before


def test_a_retraining_as_of_an_earlier_session_leaves_production_alone(
    command: Command, looped: Installation
):
    production = looped.alias()

    printed = command("retrain", "--as-of", "2012-11-30").stdout

    dataset = re.search(r"20121130_\d{6}", printed)
    assert dataset is not None
    ((version, promoted, rival),) = looped.rows(
        "SELECT candidate_version, promoted, production_version FROM model_promotions "
        f"WHERE dataset_run_id = '{dataset[0]}'"
    )
    # It has no rival as of its session and forecasts the sessions after; production stays.
    assert (version, promoted, rival) == (max(looped.versions()), True, None)
    assert looped.alias() == production
    assert f" v{version} " in command("predict", "--date", "2012-12-14").stdout


@pytest.mark.long
def test_a_retraining_as_of_a_later_session_must_win(demoed: Installation):
    printed = demoed.succeed("retrain", "--as-of", "2013-01-31")

    ((version, promoted, rival, first, last),) = demoed.rows(
        "SELECT candidate_version, promoted, production_version, first_session, last_session "
        "FROM model_promotions WHERE as_of_session = '2013-01-31'"
    )
    assert (version, promoted, rival) == (max(demoed.versions()), False, 1)
    assert first < last < date(2013, 1, 31)
    assert "Not promoted" in printed
    assert demoed.alias() == 1


def test_a_dataset_can_be_trained_on_again(command: Command, looped: Installation):
    before, versions, alias = looped.lasting_rows(), looped.versions(), looped.alias()

    finished = command("retrain", "--dataset", "20121231_120000")

    assert finished.returncode == 0, finished.stderr
    assert looped.run_statuses()[-1] == "SUCCESS"
    assert looped.lasting_rows() == before
    assert looped.versions() == versions
    assert looped.alias() == alias


def test_status_is_the_same_for_a_person_and_a_program(command: Command, demoed: Installation):
    shown = " ".join(command("status", at=demoed).stdout.split())
    found = json.loads(command("status", "--json", at=demoed).stdout)

    assert found["prices"] == {
        "bars": 12_154,
        "tickers": 5,
        "first_session": "2000-03-01",
        "last_session": "2013-03-01",
    }
    for fact in ("12,154", "2000-03-01", "2013-03-01"):
        assert fact in shown
    production = found["production"]
    assert production["version"] == demoed.alias() == 1
    assert f"version 1, dataset {production['dataset_run_id']}" in shown
    assert found["last_promotion_decision"]["reason"]
    scores = found["performance"]
    assert scores["persistence"]["relative_mae"] == 1
    assert scores["model"]["forecasts"] == 100  # 20 sessions of 5 tickers
    assert "100 forecasts" in shown
    assert (found["late_tickers"], found["quarantined_bars"]) == ({}, [])


def test_the_database_is_started_named_and_stopped(new_home: Installation):
    empty = new_home

    assert str(empty.home / "postgres") in empty.succeed("db", "start").replace("\n", "")
    assert empty.succeed("db", "upgrade").strip() == "up to date"
    assert empty.processes() != []  # it was kept, and is
    address = empty.succeed("db", "url").strip()
    assert empty.address("stock_assets").render_as_string(hide_password=False) == address
    assert empty.value("SELECT count(*) FROM raw_stock_data") == 0

    assert empty.succeed("db", "stop").strip() == "stopped"
    assert empty.processes() == []
    assert empty.succeed("db", "stop").strip() == "not running"


def test_a_command_stops_the_database_that_it_started(new_home: Installation):
    new_home.succeed("db", "upgrade")

    assert new_home.processes() == []
