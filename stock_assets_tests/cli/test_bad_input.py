"""Each mistake: one line that names the thing, the place and the remedy, and nothing written."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from stock_assets_tests.cli.conftest import Demo, Installation, new_installation

pytestmark = pytest.mark.slow

JANUARY = ("--from", "2013-01-02", "--to", "2013-01-04")
HEADER = "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits"
SOUND = (
    "2013-01-02,194.1,196.4,193.8,196.4,4234100,0,0",
    "2013-01-03,195.7,196.3,194.4,195.3,3644700,0,0",
    "2013-01-04,194.2,194.5,193.1,194.0,3380200,0,0",
)


@pytest.fixture
def other(demoed: Installation, tmp_path: Path) -> Installation:
    """Another project folder on the demo's home: its parameters may be spoilt."""
    for name in ("params.yaml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(demoed.project / name, tmp_path / name)
    return replace(demoed, project=tmp_path)


@pytest.fixture
def complaint(other: Installation) -> Iterator[Installation]:
    """The other project; whatever the test does with it, no table changes."""
    before, alias = other.tables(), other.alias()
    yield other
    assert other.tables() == before
    assert other.alias() == alias


def mistake(installation: Installation, *arguments: str, **variables: str) -> str:
    """Run a command that must fail in one line, and give the line."""
    finished = installation.run(*arguments, **variables)
    return one_line(finished)


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    """Require a failure told in one line on stderr; its text."""
    assert finished.returncode != 0
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in finished.stdout
    return line.removeprefix("error: ")


def change(installation: Installation, section: str, **values: object) -> None:
    file = installation.project / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params[section] |= values
    file.write_text(yaml.safe_dump(params))


class TestParameters:
    """Found before anything is started, so one command stands for all."""

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            ({"windw": 3}, "dataset.windw: Extra inputs are not permitted"),
            ({"window": "wide"}, "dataset.window: Input should be a valid integer"),
            ({"window": -5}, "dataset.window: Input should be greater than 0 (got -5)"),
        ],
    )
    def test_a_wrong_key_or_value(
        self, complaint: Installation, values: dict[str, object], told: str
    ):
        change(complaint, "dataset", **values)

        line = mistake(complaint, "retrain")

        assert line.startswith(f"{complaint.project / 'params.yaml'}: {told}")
        assert line.endswith("Correct this key; docs/configuration.md lists all of them.")

    def test_not_yaml(self, complaint: Installation):
        (complaint.project / "params.yaml").write_text("prices: [\n  x: {")

        line = mistake(complaint, "retrain")

        assert line.startswith(f"{complaint.project / 'params.yaml'} is not valid YAML: ")
        assert "line 2, column 7" in line
        assert line.endswith("Mend that line.")

    @pytest.mark.parametrize("name", ["params.yaml", "dagster.yaml", "workspace.yaml"])
    def test_a_missing_file(self, complaint: Installation, name: str):
        (complaint.project / name).unlink()

        line = mistake(complaint, "retrain")

        assert line == (
            f"{complaint.project / name} does not exist. "
            "Run from the project folder, or set STOCK_ASSETS_PROJECT to it."
        )

    def test_an_unknown_ticker(self, complaint: Installation):
        change(complaint, "prices", tickers=["AAPL", "ZZZZ"])
        change(complaint, "monitoring", minimum_forecasts=20)

        line = mistake(complaint, "backfill", "raw_prices", *JANUARY)

        assert line == (
            "the price source sample has no ZZZZ; it has AAPL, FB, GOOG, IBM, MSFT. "
            "Correct prices.tickers in params.yaml, or choose another prices.source."
        )

    def test_a_demo_of_other_prices(self, complaint: Installation):
        change(complaint, "prices", source="csv")

        line = mistake(complaint, "demo")

        assert "prices.source is csv" in line
        assert "Set prices.source to sample in params.yaml" in line

    def test_a_demo_that_begins_after_its_prices(self, complaint: Installation):
        change(complaint, "prices", first_session="2013-06-03")

        line = mistake(complaint, "demo")

        assert line == (
            "the demo trains on sessions up to 2012-12-31, and prices.first_session is 2013-06-03. "
            "Set prices.first_session in params.yaml to a date in or before 2012."
        )


WRONG_ARGUMENTS = {
    ("predict", "--date", "2013-01-05"): (
        "2013-01-05 is not a trading session of XNYS "
        "(the nearest are 2013-01-04 and 2013-01-07). Name a day on which the exchange opens."
    ),
    ("retrain", "--as-of", "2012-12-25"): (
        "2012-12-25 is not a trading session of XNYS "
        "(the nearest are 2012-12-24 and 2012-12-26). Name a day on which the exchange opens."
    ),
    ("predict", "--date", "tomorrow"): (
        "Invalid value for '--date': 'tomorrow' is not a date; write YYYY-MM-DD. "
        "See stock-assets predict --help."
    ),
    ("predict", "--date", "2034-01-04"): (
        "2034-01-04 is in the future. Choose a date up to today."
    ),
    ("predict", "--date", "1999-01-04"): (
        "1999-01-04 is before the first trading-day partition, 2000-03-01. "
        "Choose a later date, or change prices.first_session in params.yaml."
    ),
    ("retrain", "--as-of", "2013-03-04"): (
        "prices are stored up to 2013-03-01, not 2013-03-04. Store the rest: "
        "stock-assets backfill raw_prices --from 2013-03-01 --to 2013-03-04."
    ),
    ("retrain", "--dataset", "newest"): (
        "'newest' is not a dataset id. Write YYYYMMDD_HHMMSS: "
        "the as-of session and a UTC time, such as 20121231_183000."
    ),
    ("retrain", "--dataset", "20121225_120000"): (
        "2012-12-25 is not a trading session of XNYS "
        "(the nearest are 2012-12-24 and 2012-12-26). Name a day on which the exchange opens."
    ),
    ("retrain", "--dataset", "20121231_120000", "--as-of", "2012-12-31"): (
        "--as-of and --dataset exclude each other. Give one of them."
    ),
    ("backfill", "prices", *JANUARY): (
        "prices is not an asset with trading-day partitions. Choose among raw_prices, "
        "predictions, performance_log; for other assets: stock-assets retrain."
    ),
    ("backfill", "tuned_params", *JANUARY): (
        "tuned_params is not an asset with trading-day partitions. Choose among raw_prices, "
        "predictions, performance_log; for other assets: stock-assets retrain."
    ),
    ("backfill", "raw_prices", "--from", "2013-01-04", "--to", "2013-01-02"): (
        "--from 2013-01-04 is later than --to 2013-01-02. Swap the two."
    ),
    ("backfill", "raw_prices", "--from", "1999-01-04", "--to", "2013-01-02"): (
        "1999-01-04 is before the first trading-day partition, 2000-03-01. "
        "Choose a later date, or change prices.first_session in params.yaml."
    ),
    ("backfill", "raw_prices", "--from", "2013-01-02", "--to", "2034-01-04"): (
        "2034-01-04 is in the future. Choose a date up to today."
    ),
    ("backfill", "raw_prices", "--from", "2013-01-19", "--to", "2013-01-21"): (
        "2013-01-19 is not a trading session of XNYS "
        "(the nearest are 2013-01-18 and 2013-01-22). Name a day on which the exchange opens."
    ),
    ("servce",): "No such command 'servce'. Did you mean 'serve'? See stock-assets --help.",
    ("dataset", "shw"): (
        "No such command 'shw'. Did you mean 'show'? See stock-assets dataset --help."
    ),
    ("backfill",): ("Missing argument 'ASSETS...'. See stock-assets backfill --help."),
    ("up", "--dagster-port", "99999"): (
        "Invalid value for '--dagster-port': 99999 is not in the range 1<=x<=65535. "
        "See stock-assets up --help."
    ),
    ("up", "--dagster-port", "3456", "--mlflow-port", "3456"): (
        "port 3456 is to be used twice. Choose another with --dagster-port or --mlflow-port."
    ),
}


@pytest.fixture(scope="module")
def answers(demo: Demo) -> dict[tuple[str, ...], subprocess.CompletedProcess[str]]:
    """What every wrong command line ended in: tried side by side, as each costs a start."""
    installation = demo.installation
    before = installation.tables(), installation.run_statuses()
    with ThreadPoolExecutor(3) as pool:
        finished = list(pool.map(lambda words: installation.run(*words), WRONG_ARGUMENTS))
    assert (installation.tables(), installation.run_statuses()) == before
    return dict(zip(WRONG_ARGUMENTS, finished, strict=True))


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS, ids=" ".join)
def test_a_wrong_argument(
    answers: dict[tuple[str, ...], subprocess.CompletedProcess[str]], arguments: tuple[str, ...]
):
    assert one_line(answers[arguments]) == WRONG_ARGUMENTS[arguments]


def test_a_dataset_that_does_not_exist(complaint: Installation):
    line = mistake(complaint, "retrain", "--dataset", "20121231_000000")

    assert line.startswith("there is no dataset 20121231_000000. The newest are 2")


def test_a_forecast_that_would_be_in_sample(complaint: Installation):
    line = mistake(complaint, "predict", "--date", "2010-01-04")

    assert line.startswith("every promoted model has seen sessions after 2010-01-04; ")
    assert line.endswith("Train one that may: stock-assets retrain --as-of 2010-01-04.")


def test_a_traceback_for_those_who_ask(complaint: Installation):
    finished = complaint.run("--traceback", "predict", "--date", "2010-01-04")

    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "model_for(" in finished.stderr  # the place in the step, not only in the command line
    assert finished.stderr.splitlines()[-1].startswith("error: every promoted model has seen")


@pytest.mark.parametrize("option", ["--dashboard-port", "--dagster-port", "--mlflow-port"])
def test_a_port_in_use(complaint: Installation, option: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        line = mistake(complaint, "up", option, str(port))

    assert line == (
        f"port {port} on 127.0.0.1 is in use. "
        f"Stop the program that listens there, or choose another port with {option}."
    )


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "postgresql://nobody@127.0.0.1:1/x",
            "no database at postgresql+psycopg2://nobody@127.0.0.1:1/x: connection to server at "
            '"127.0.0.1", port 1 failed: Connection refused. Start it, correct '
            "STOCK_ASSETS_DATABASE_URL, or unset it to use the embedded one.",
        ),
        (
            "mysql://nobody@127.0.0.1/x",
            "STOCK_ASSETS_DATABASE_URL names mysql, not PostgreSQL. "
            "Write it as postgresql://USER:PASSWORD@HOST:5432/stock_assets.",
        ),
        (
            "stocks",
            "STOCK_ASSETS_DATABASE_URL is not a database address. "
            "Write it as postgresql://USER:PASSWORD@HOST:5432/stock_assets.",
        ),
    ],
)
def test_a_database_that_is_not_there(complaint: Installation, address: str, told: str):
    assert mistake(complaint, "status", STOCK_ASSETS_DATABASE_URL=address) == told


def test_a_password_is_not_shown(complaint: Installation):
    address = "postgresql://nobody:secret@127.0.0.1:1/x"

    line = mistake(complaint, "status", STOCK_ASSETS_DATABASE_URL=address)

    assert "no database at postgresql+psycopg2://nobody:***@127.0.0.1:1/x" in line


class TestCsv:
    """A folder of files in yfinance's shape, one of them spoilt."""

    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            (
                ["Date,Open,High,Low,Close", *(line.rsplit(",", 3)[0] for line in SOUND)],
                ("IBM.csv has no column Volume, Dividends, Stock Splits.", "Save the file again"),
            ),
            (
                [HEADER, *SOUND, SOUND[-1]],
                ("IBM.csv, line 5: Date '2013-01-04' is there twice.", "Correct that line."),
            ),
            (
                [HEADER, SOUND[0], SOUND[1].replace("195.3", "NaN"), SOUND[2]],
                ("IBM.csv, line 3: Close 'NaN' is not a number.", "Correct that line."),
            ),
            (
                [HEADER, SOUND[0], SOUND[1].replace("196.3", "190"), SOUND[2]],
                ("IBM.csv, line 3: High '190' is below Low.", "Correct that line."),
            ),
        ],
        ids=["missing columns", "a date twice", "not a number", "high below low"],
    )
    def test_a_spoilt_file(self, complaint: Installation, lines: list[str], told: tuple[str, str]):
        self._offer(complaint, "IBM", lines)

        line = mistake(complaint, "backfill", "raw_prices", *JANUARY)

        assert line.startswith(str(complaint.project / "prices"))
        for words in told:
            assert words in line

    def test_an_unknown_ticker(self, complaint: Installation):
        self._offer(complaint, "KO", [HEADER, *SOUND])

        line = mistake(complaint, "backfill", "raw_prices", *JANUARY)

        folder = complaint.project / "prices"
        assert line.startswith(f"the folder {folder} has no file for IBM. Save IBM.csv there, ")

    def test_a_bar_that_cannot_be(self, new_home: Installation):
        self._offer(new_home, "IBM", [HEADER, SOUND[0].replace(",196.4,4", ",199.9,4"), SOUND[1]])
        days = ("--from", "2013-01-03", "--to", "2013-01-03")

        line = mistake(new_home, "backfill", "raw_prices", *days)

        assert line.startswith("raw_prices: the check bars_are_sound failed: high is below open")
        assert "ticker IBM, session 2013-01-02" in line
        assert "close 199.9" in line
        assert "IBM 2013-01-02: high is below" in new_home.succeed("status")

    def _offer(self, installation: Installation, ticker: str, lines: list[str]) -> None:
        change(installation, "prices", source="csv", tickers=["IBM"])
        change(installation, "monitoring", minimum_forecasts=20)
        (installation.project / "prices").mkdir()
        (installation.project / "prices" / f"{ticker}.csv").write_text("\n".join(lines) + "\n")


def test_nothing_is_there_yet():
    with new_installation() as empty:
        empty.succeed("db", "start")
        told = empty.succeed("status")
        assert "none stored: stock-assets backfill raw_prices" in told
        assert "no model yet: stock-assets retrain" in told

        assert mistake(empty, "retrain") == (
            "no prices are stored yet. "
            "Store some: stock-assets backfill raw_prices --from 2000-03-01 --to DATE."
        )

        empty.succeed("backfill", "raw_prices", *JANUARY)
        before = empty.tables()
        assert mistake(empty, "predict") == (
            "there is no production model to forecast 2013-01-04 with. "
            "Train one that may: stock-assets retrain --as-of 2013-01-04."
        )
        assert empty.tables() == before
