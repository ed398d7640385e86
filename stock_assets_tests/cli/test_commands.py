"""Every other command, one after the other on an installation with a demo in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from stock_assets_tests.cli.conftest import Demo, Installation

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


def in_a_shell(installation: Installation, command: str) -> subprocess.CompletedProcess[str]:
    """Run a plain dagster command as README tells: after ``eval "$(stock-assets env)"``."""
    script = f'set -e; export PATH="{BIN}:$PATH"; eval "$(stock-assets env)"; {command}'
    return subprocess.run(
        ["bash", "-c", script],
        env=installation.environment,
        cwd=installation.project,
        capture_output=True,
        text=True,
        timeout=240,
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
    assert "RUN_SUCCESS" in launched.stderr
    assert demoed.run_statuses()[-1] == "SUCCESS"
    assert forecasts_written_by_the_last_run(demoed) == [
        date(2013, 1, 2),
        date(2013, 1, 3),
        date(2013, 1, 4),
    ]
    assert demoed.tables() == before


def test_predictions_are_backfilled_by_a_plain_dagster_command(demoed: Installation):
    before = demoed.tables()

    made = in_a_shell(
        demoed,
        "dagster asset materialize -m stock_assets.definitions --select predictions "
        "--partition-range 2013-01-10...2013-01-15",
    )

    assert made.returncode == 0, made.stderr
    assert demoed.run_statuses()[-1] == "SUCCESS"
    assert [day.day for day in forecasts_written_by_the_last_run(demoed)] == [10, 11, 14, 15]
    assert demoed.tables() == before


def test_env_can_write_what_it_prints(demoed: Installation):
    printed = demoed.succeed("env", "--write")

    file = demoed.project / ".env"
    written = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert [line.split("=")[0].split() for line in printed.splitlines()] == [
        ["export", name] for name in written
    ]
    assert written["DAGSTER_HOME"] == str(demoed.project)
    assert written["STOCK_ASSETS_HOME"] == str(demoed.home)
    assert file.stat().st_mode & 0o077 == 0
    file.unlink()


def test_predict_shows_the_forecast_of_the_session_after(demoed: Installation):
    before = demoed.tables()

    printed = demoed.succeed("predict", "--date", "2013-01-18")

    assert "Forecast for Tuesday 2013-01-22" in printed  # the 21st is a holiday
    assert printed.count(" v1 ") == 5
    assert demoed.tables() == before


def test_predict_goes_from_the_last_stored_session(demoed: Installation):
    printed = demoed.succeed("predict")

    assert "Forecast for Monday 2013-03-04" in printed
    latest = json.loads((demoed.home / "forecasts" / "latest_predictions.json").read_text())
    assert latest["date"] == "2013-03-04"


def test_backfill_snaps_to_sessions(demoed: Installation):
    before = demoed.tables()

    span = ("--from", "2013-01-19", "--to", "2013-01-27")
    printed = demoed.succeed("backfill", "predictions", *span)

    assert "predictions: 4 sessions, 2013-01-22 to 2013-01-25" in printed
    assert [day.day for day in forecasts_written_by_the_last_run(demoed)] == [22, 23, 24, 25]
    assert demoed.tables() == before


def test_a_retraining_as_of_an_earlier_session_leaves_production_alone(demoed: Installation):
    printed = demoed.succeed("retrain", "--as-of", "2012-11-30")

    dataset = re.search(r"Retraining on dataset (20121130_\d{6})", printed)
    assert dataset is not None
    decided = demoed.rows(
        "SELECT promoted, production_version, decision FROM model_promotions "
        f"WHERE dataset_run_id = '{dataset[1]}'"
    )
    # In its own time it has no rival, and may forecast that time; today's production stays.
    assert [row[:2] for row in decided] == [(True, None)]
    assert f"  {decided[0][2]}" in printed.splitlines()
    assert demoed.alias() == 1

    printed = demoed.succeed("predict", "--date", "2012-12-14")
    assert "Forecast for Monday 2012-12-17" in printed
    assert printed.count(f" v{max(demoed.versions())} ") == 5


def test_a_retraining_as_of_a_later_session_must_win(demoed: Installation):
    printed = demoed.succeed("retrain", "--as-of", "2013-01-31")

    newest = max(demoed.versions())
    ((version, promoted, rival, first, last),) = demoed.rows(
        "SELECT candidate_version, promoted, production_version, first_session, last_session "
        "FROM model_promotions WHERE as_of_session = '2013-01-31'"
    )
    assert (version, promoted, rival) == (newest, False, 1)
    assert last < date(2013, 1, 31)
    assert first < last
    assert "Not promoted: the candidate's relative MAE is" in printed
    assert demoed.alias() == 1


def test_a_dataset_can_be_trained_on_again(demoed: Installation, demo: Demo):
    (dataset,) = re.findall(r"20121231_\d{6}", demo.printed.partition("Retraining")[2])[:1]
    before, versions = demoed.lasting_rows(), demoed.versions()

    printed = demoed.succeed("retrain", "--dataset", dataset)

    assert f"Retraining on dataset {dataset}" in printed
    assert "Promoted: the candidate's relative MAE is" in printed
    assert demoed.lasting_rows() == before
    assert demoed.versions() == versions
    assert demoed.alias() == 1


def test_status_tells_a_person_all_of_it(demoed: Installation):
    printed = demoed.succeed("status")

    assert "12,154 bars of 5 tickers from sample, 2000-03-01 to 2013-03-01" in printed
    assert re.search(r"production +version 1, dataset 20121231_\d{6}", printed)
    assert re.search(r"relative MAE \d\.\d{3}", printed)


def test_status_tells_a_program_all_of_it(demoed: Installation):
    told = json.loads(demoed.succeed("status", "--json"))

    assert told["prices"] == {
        "bars": 12_154,
        "tickers": 5,
        "first_session": "2000-03-01",
        "last_session": "2013-03-01",
    }
    assert told["production"]["version"] == 1
    assert told["production"]["as_of"] == "2012-12-31"
    assert told["last_promotion_decision"]["reason"]
    assert told["performance"]["persistence"]["relative_mae"] == 1
    assert told["performance"]["model"]["forecasts"] == 100
    assert set(told) == {
        *("project", "home", "source", "tickers", "prices", "production", "performance"),
        *("last_promotion_decision", "last_predicted_session", "last_retraining_decision"),
        *("late_tickers", "quarantined_bars"),
    }


def test_the_database_is_started_named_and_stopped(new_home: Installation):
    empty = new_home

    assert str(empty.home / "postgres") in empty.succeed("db", "start").replace("\n", "")
    assert empty.succeed("db", "upgrade").strip() == "up to date"
    address = empty.succeed("db", "url").strip()
    assert address.startswith("postgresql+psycopg2://")
    assert empty.address("stock_assets").render_as_string(hide_password=False) == address
    assert empty.value("SELECT count(*) FROM raw_stock_data") == 0

    assert empty.processes() != []

    assert empty.succeed("db", "stop").strip() == "stopped"
    assert empty.processes() == []
    assert empty.succeed("db", "stop").strip() == "not running"


def test_a_command_stops_the_database_that_it_started(new_home: Installation):
    empty = new_home

    empty.succeed("db", "upgrade")

    assert empty.processes() == []
