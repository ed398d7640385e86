"""Every command of ``stock-assets``."""

from __future__ import annotations

import re
import signal
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console
from rich.markup import escape

from stock_assets.core.errors import StockAssetsError

app = typer.Typer(
    help="Daily stock-price forecasting as an asset graph.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    suggest_commands=False,  # click suggests them already
)
database = typer.Typer(
    help="The database: start, stop, url, upgrade.", no_args_is_help=True, suggest_commands=False
)
app.add_typer(database, name="db")
dataset_commands = typer.Typer(
    help="Datasets: list, show, and verify against the stored rows.",
    no_args_is_help=True,
    suggest_commands=False,
)
app.add_typer(dataset_commands, name="dataset")

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)
_shown = {"traceback": False}

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
DatasetId = Annotated[str, typer.Argument(metavar="ID", help="Such as 20121231_183000.")]

# In an address, between user and host.
_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/\s]*@")


def _parse_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date; write YYYY-MM-DD") from None


@app.callback()
def options(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from.")
    ] = False,
) -> None:
    """Daily stock-price forecasting as an asset graph."""
    _shown["traceback"] = traceback


@app.command()
def up(
    dashboard_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the dashboard and the API.")
    ] = 8000,
    dagster_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the Dagster UI.")
    ] = 3000,
    mlflow_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")
    ] = 5000,
) -> None:
    """Run everything in the foreground: database, dashboard, Dagster UI and daemon, MLflow UI."""
    from stock_assets.cli.services import Ports, run_services

    run_services(console, Ports(dashboard_port, dagster_port, mlflow_port))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    allow_anyone: Annotated[
        bool,
        typer.Option(
            "--allow-anyone", help="Ask for no key, even if other machines can reach the address."
        ),
    ] = False,
) -> None:
    """Answer with forecasts and what became of them: dashboard and JSON API, which only read."""
    from stock_assets.cli.serve import serve as answer_requests
    from stock_assets.service.settings import find_settings

    answer_requests(console, find_settings(host, port, allow_anyone=allow_anyone))


@app.command()
def demo() -> None:
    """Run the whole loop on the sample prices and summarise it; again, it changes nothing."""
    from stock_assets.cli.demo import run_demo
    from stock_assets.cli.platform import open_platform

    run_demo(open_platform(), console)


@app.command()
def env(
    write: Annotated[
        bool, typer.Option("--write", help="Also write them to .env in the project folder.")
    ] = False,
) -> None:
    """Print exports that make plain dagster and mlflow commands work, and start the database."""
    import shlex

    from stock_assets.cli.platform import open_platform, write_env_file

    platform = open_platform(keep=True)
    for name, value in platform.variables.items():
        print(f"export {name}={shlex.quote(value)}")  # noqa: T201 - for eval, not for people
    if write:
        write_env_file(platform.locations.project / ".env", platform.variables)


@app.command()
def retrain(
    as_of: Annotated[
        date | None,
        typer.Option(parser=_parse_date, metavar="DATE", help="Newest session it may see."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Run an existing dataset again instead of a new one.")
    ] = None,
) -> None:
    """Train a candidate as of a session (default: the last stored) and decide on its promotion."""
    from stock_assets.cli.loop import retrain_as_of, retrain_dataset
    from stock_assets.cli.platform import open_platform

    if as_of is not None and dataset is not None:
        raise StockAssetsError("--as-of and --dataset exclude each other", "Give one of them")
    platform = open_platform()
    if dataset is not None:
        retrain_dataset(platform, console, dataset)
    else:
        retrain_as_of(platform, console, as_of)


@app.command()
def predict(
    day: Annotated[
        date | None,
        typer.Option(
            "--date", parser=_parse_date, metavar="DATE", help="As-of session; default: the last."
        ),
    ] = None,
) -> None:
    """Forecast the session after DATE with the model that was in production then."""
    from stock_assets.cli.loop import predict_as_of
    from stock_assets.cli.platform import open_platform

    predict_as_of(open_platform(), console, day)


@app.command()
def backfill(
    assets: Annotated[list[str], typer.Argument(help="Daily assets, in any order.")],
    first: Annotated[date, typer.Option("--from", parser=_parse_date, metavar="DATE")],
    last: Annotated[date, typer.Option("--to", parser=_parse_date, metavar="DATE")],
) -> None:
    """Materialize daily assets for every session from one date to another, as one run."""
    from stock_assets.cli.loop import backfill_assets
    from stock_assets.cli.platform import open_platform

    backfill_assets(open_platform(), console, assets, first, last)


@app.command()
def refetch(
    tickers: Annotated[list[str], typer.Argument(help="Whose history to take as it is now.")],
) -> None:
    """Take whole histories anew, also where they contradict the stored ones."""
    from stock_assets.cli.loop import refetch_tickers
    from stock_assets.cli.platform import open_platform

    refetch_tickers(open_platform(), console, tickers)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show what is stored, in production, forecast, scored and decided."""
    from stock_assets.cli.platform import open_platform
    from stock_assets.cli.status import gather_status, show_status

    found = gather_status(open_platform())
    if as_json:
        _print_json(found)
    else:
        show_status(found, console)


@dataset_commands.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """List the datasets, newest first."""
    from stock_assets.cli.datasets import show_datasets
    from stock_assets.cli.platform import open_platform
    from stock_assets.storage import datasets

    found = datasets.list_datasets(open_platform().engine)
    if as_json:
        _print_json(found)
    else:
        show_datasets(found, console)


@dataset_commands.command("show")
def show_dataset(dataset: DatasetId, as_json: AsJson = False) -> None:
    """Show what a dataset was made from, with what, and what became of it."""
    from stock_assets.cli import datasets
    from stock_assets.cli.platform import open_platform

    found = datasets.gather_dataset(open_platform(), dataset)
    if as_json:
        _print_json(found)
    else:
        datasets.show_dataset(found, console)


@dataset_commands.command("verify")
def verify_dataset(dataset: DatasetId, as_json: AsJson = False) -> None:
    """Make a dataset again from the stored rows and compare; status 1 if it is another."""
    from stock_assets.cli import datasets
    from stock_assets.cli.platform import open_platform

    found = datasets.verify_dataset(open_platform(), dataset)
    if as_json:
        _print_json(found)
    else:
        datasets.show_verification(found, console)
    raise typer.Exit(0 if found["equal"] else 1)


@dataset_commands.command("export")
def export_dataset(
    dataset: DatasetId, file: Annotated[Path, typer.Argument(help="The Parquet file to write.")]
) -> None:
    """Write the features and labels of a dataset to a Parquet file."""
    from stock_assets.cli import datasets
    from stock_assets.cli.platform import open_platform

    rows = datasets.export_dataset(open_platform(), dataset, file)
    console.print(f"{rows:,} rows: {file}", soft_wrap=True)


@database.command()
def start() -> None:
    """Start the embedded database and leave it running."""
    from stock_assets.cli.platform import open_platform

    platform = open_platform(keep=True)
    console.print(f"running: {platform.locations.postgres_folder}")


@database.command()
def stop() -> None:
    """Stop the embedded database."""
    from stock_assets.core.locations import find_locations
    from stock_assets.storage import server

    console.print("stopped" if server.stop(find_locations()) else "it was not running")


@database.command()
def url() -> None:
    """Print the database's address; start it if need be and leave it running."""
    from stock_assets.cli.platform import open_platform
    from stock_assets.storage.database import STORE_URL_VARIABLE

    print(open_platform(keep=True).variables[STORE_URL_VARIABLE])  # noqa: T201 - for programs


@database.command()
def upgrade() -> None:
    """Create missing databases and bring the tables up to date."""
    from stock_assets.cli.platform import open_platform

    open_platform()
    console.print("up to date")


def _print_json(found: object) -> None:
    import json

    print(json.dumps(found, indent=2, default=str, allow_nan=False))  # noqa: T201 - for programs


def main() -> None:
    """Run the command line; an error takes one line, unless its traceback is asked for.

    The status is 1 when something is wrong, 2 when the command was written wrongly, 130 after
    Ctrl-C.
    """
    # Without this these signals would leave the embedded database running.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores the end of the terminal
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(app(standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        help_command = f"{error.ctx.command_path if error.ctx else 'stock-assets'} --help"
        _complain(str(StockAssetsError(error.format_message(), f"See {help_command}")))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(128 + signal.SIGINT)
    except StockAssetsError as error:
        _complain(str(error), getattr(error, "details", ""))
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last resort
        first = _PASSWORD.sub(r"\1:***@", str(error).strip().partition("\n")[0])
        told = ": ".join(filter(None, (type(error).__name__, first.rstrip("."))))
        hint = "" if _shown["traceback"] else " Add --traceback to see where."
        _complain(f"{told}.{hint}")
        sys.exit(1)


def _complain(told: str, details: str = "") -> None:
    if _shown["traceback"]:
        stderr.print_exception()
        stderr.print(details, markup=False)
    stderr.print(f"[red]error:[/red] {escape(told)}")


if __name__ == "__main__":
    main()
