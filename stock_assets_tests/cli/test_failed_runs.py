"""A run that fails: the line names the step's own error, and the record shows the failure."""

from __future__ import annotations

import pytest
import yaml

from stock_assets_tests.cli.conftest import Command, Installation

WITHOUT_HISTORY = ("predict", "--date", "2000-03-02")
"""A forecast as of a session with too few bars before it."""

HEADER = "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits"
BARS = (
    "2013-01-02,194.1,196.4,193.8,199.9,4234100,0,0",  # closes above its high
    "2013-01-03,195.7,196.3,194.4,195.3,3644700,0,0",
)


def test_an_error_of_a_step_is_one_line(command: Command, looped: Installation):
    before, failed = looped.tables(), looped.run_statuses().count("FAILURE")

    line = command(*WITHOUT_HISTORY).error

    assert "2000-03-02" in line
    assert "stock-assets backfill raw_prices" in line
    assert looped.run_statuses().count("FAILURE") == failed + 1
    assert looped.tables() == before


def test_a_traceback_shows_the_place_in_the_step(command: Command):
    finished = command("--traceback", *WITHOUT_HISTORY)

    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "/stock_assets/defs/" in finished.stderr
    assert finished.stderr.splitlines()[-1].startswith("error: ")


@pytest.fixture
def with_files(new_home: Installation) -> Installation:
    """An installation that reads a folder with one bar that cannot be."""
    file = new_home.project / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params["prices"] |= {"source": "csv", "tickers": ["IBM"]}
    file.write_text(yaml.safe_dump(params))
    folder = new_home.project / "prices"
    folder.mkdir()
    (folder / "IBM.csv").write_text("\n".join([HEADER, *BARS]) + "\n")
    return new_home


def test_a_failed_check_is_one_line_with_the_first_offending_row(with_files: Installation):
    days = ("--from", "2013-01-03", "--to", "2013-01-03")

    failed = with_files.run("backfill", "raw_prices", *days)

    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith("error: raw_prices: ")
    assert "2013-01-02" in line
    assert "199.9" in line
    assert "IBM 2013-01-02" in with_files.succeed("status")
