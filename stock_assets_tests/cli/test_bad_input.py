"""A mistake ends in one line that names the thing, the place and the remedy; nothing is written."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
import yaml

from stock_assets.cli.main import app
from stock_assets_tests.cli.conftest import Command, Finished, Installation

JANUARY = ("--from", "2013-01-02", "--to", "2013-01-04")


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_written(looped: Installation) -> Iterator[None]:
    """No test of this module changes a table, the registry or the runs on record."""

    def state() -> object:
        return looped.tables(), looped.alias(), looped.versions(), looped.run_statuses()

    before = state()
    yield
    assert state() == before


@pytest.fixture
def project(looped: Installation, tmp_path: Path) -> Path:
    """Another project folder for the loop's home: its files may be damaged."""
    for name in ("params.yaml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(looped.project / name, tmp_path / name)
    return tmp_path


def change(project: Path, section: str, **values: object) -> None:
    file = project / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params[section] |= values
    file.write_text(yaml.safe_dump(params))


def require_known_commands(line: str) -> None:
    """Every command and option that a remedy names exists."""
    for words in re.findall(r"stock-assets((?: [a-z_]+)*)((?: --[a-z-]+| [A-Z0-9_-]+)*)", line):
        found: click.Command = typer.main.get_command(app)
        for name in words[0].split():
            if not isinstance(found, click.Group):
                break  # what follows is an argument
            assert name in found.commands, f"{name} in {line}"
            found = found.commands[name]
        options = {option for parameter in found.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words[1])) <= options | {"--help"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"windw": 3}, "dataset.windw"),
        ({"window": "wide"}, "dataset.window"),
        ({"window": -5}, "-5"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_file(
    command: Command, project: Path, values: dict[str, object], named: str
):
    change(project, "dataset", **values)

    line = command("retrain", project=project).error

    assert line.startswith(f"{project / 'params.yaml'}: ")
    assert named in line
    assert "docs/configuration.md" in line


def test_a_file_that_is_not_yaml_is_named_with_its_line(command: Command, project: Path):
    (project / "params.yaml").write_text("prices: [\n  x: {")

    line = command("retrain", project=project).error

    assert line.startswith(str(project / "params.yaml"))
    assert "line 2, column 7" in line


@pytest.mark.parametrize("name", ["params.yaml", "dagster.yaml", "workspace.yaml"])
def test_a_missing_file_is_named_with_the_variable_that_finds_it(
    command: Command, project: Path, name: str
):
    (project / name).unlink()

    line = command("retrain", project=project).error

    assert line.startswith(str(project / name))
    assert "STOCK_ASSETS_PROJECT" in line


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"source": "csv"}, ("csv", "prices.source", "params.yaml")),
        ({"first_session": "2013-06-03"}, ("2013-06-03", "prices.first_session", "params.yaml")),
    ],
)
def test_an_impossible_demo_is_refused(
    command: Command, project: Path, values: dict[str, object], named: tuple[str, ...]
):
    change(project, "prices", **values)

    line = command("demo", project=project).error

    assert [word for word in named if word not in line] == []


WRONG_ARGUMENTS = {
    # Not a session: the nearest ones are named.
    ("predict", "--date", "2013-01-05"): ("2013-01-05", "XNYS", "2013-01-04", "2013-01-07"),
    ("retrain", "--as-of", "2012-12-25"): ("2012-12-25", "2012-12-24", "2012-12-26"),
    ("retrain", "--dataset", "20121225_120000"): ("2012-12-25", "2012-12-24", "2012-12-26"),
    ("backfill", "raw_prices", "--from", "2013-01-19", "--to", "2013-01-21"): (
        *("2013-01-19", "2013-01-18", "2013-01-22"),
    ),
    # Outside the calendar or the stored prices.
    ("predict", "--date", "2034-01-04"): ("2034-01-04", "today"),
    ("backfill", "raw_prices", "--from", "2013-01-02", "--to", "2034-01-04"): ("2034-01-04",),
    ("predict", "--date", "1999-01-04"): ("1999-01-04", "2000-03-01", "prices.first_session"),
    ("backfill", "raw_prices", "--from", "1999-01-04", "--to", "2013-01-02"): ("1999-01-04",),
    ("retrain", "--as-of", "2013-03-04"): (
        *("2013-03-01", "2013-03-04", "stock-assets backfill raw_prices --from"),
    ),
    # Something that does not exist.
    ("retrain", "--dataset", "newest"): ("newest", "YYYYMMDD_HHMMSS"),
    ("retrain", "--dataset", "20121231_000000"): ("20121231_000000", "20121231_120000"),
    ("dataset", "verify", "20121231_000001"): ("20121231_000001", "20130131_120000"),
    ("dataset", "show", "newest"): ("newest",),
    ("backfill", "tuned_params", *JANUARY): (
        *("tuned_params", "raw_prices", "predictions", "performance_log", "stock-assets retrain"),
    ),
    ("refetch", "XYZ"): ("XYZ", "prices.tickers", "AAPL", "params.yaml"),
    # Written wrongly.
    ("retrain", "--dataset", "20121231_120000", "--as-of", "2012-12-31"): ("--as-of", "--dataset"),
    ("backfill", "raw_prices", "--from", "2013-01-04", "--to", "2013-01-02"): ("--from", "--to"),
    ("predict", "--date", "tomorrow"): ("'--date'", "'tomorrow'", "stock-assets predict --help"),
    ("servce",): ("'servce'", "'serve'", "stock-assets --help"),
    ("dataset", "shw"): ("'shw'", "'show'", "stock-assets dataset --help"),
    ("backfill",): ("ASSETS", "stock-assets backfill --help"),
    ("up", "--dagster-port", "99999"): ("--dagster-port", "99999", "stock-assets up --help"),
    ("up", "--dagster-port", "3456", "--mlflow-port", "3456"): (
        *("3456", "--dagster-port", "--mlflow-port"),
    ),
}
"""Command lines, and what the line that refuses each of them names."""


@pytest.mark.parametrize("words", WRONG_ARGUMENTS, ids=" ".join)
def test_a_wrong_argument_is_refused(command: Command, words: tuple[str, ...]):
    line = command(*words).error

    assert [name for name in WRONG_ARGUMENTS[words] if name not in line] == []
    require_known_commands(line)


@pytest.mark.parametrize("option", ["--dashboard-port", "--dagster-port", "--mlflow-port"])
def test_a_port_in_use_is_named_with_its_option(command: Command, option: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        line = command("up", option, str(port)).error

    assert f"port {port} on 127.0.0.1 is in use" in line
    assert option in line


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("postgresql://me:secret@127.0.0.1:1/x", "postgresql+psycopg2://me:***@127.0.0.1:1/x"),
        ("mysql://me:secret@127.0.0.1/x", "not the address of a PostgreSQL database"),
        ("stocks", "not the address of a PostgreSQL database"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    command: Command, address: str, named: str
):
    line = command("status", STOCK_ASSETS_DATABASE_URL=address).error

    assert named in line
    assert "STOCK_ASSETS_DATABASE_URL" in line
    assert "secret" not in line


class TestAnEmptyInstallation:
    """Its first commands name the next step."""

    @pytest.fixture
    def empty(self, command: Command, new_home: Installation) -> Command:
        new_home.succeed("db", "start")
        home = str(new_home.home)

        def run(*words: str) -> Finished:
            return command(*words, project=new_home.project, STOCK_ASSETS_HOME=home)

        return run

    def test_each_command_names_the_one_before_it(self, empty: Command, new_home: Installation):
        shown = empty("status").stdout
        for line in (shown, empty("retrain").error):
            assert "stock-assets backfill raw_prices" in line
            require_known_commands(line)
        assert "stock-assets retrain" in shown
        assert new_home.run_statuses() == []
