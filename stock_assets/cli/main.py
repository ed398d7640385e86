"""Every command of ``stock-assets``."""

from __future__ import annotations

import re
import signal
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console
from rich.markup import escape

from stock_assets.cli.models import commands as model_commands
from stock_assets.cli.output import AsJson, console, output
from stock_assets.cli.platform import open_platform
from stock_assets.config import Basis
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import parse_moment

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
    help="Datasets: list, show, verify, export.", no_args_is_help=True, suggest_commands=False
)
app.add_typer(dataset_commands, name="dataset")
app.add_typer(model_commands, name="model")

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
_options = {"traceback": False}

# The password in an address, between user and host.
_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/\s]*@")


def _parse_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date; write YYYY-MM-DD") from None


def _date_option(name: str, help_text: str | None = None) -> Any:
    return typer.Option(name, parser=_parse_date, metavar="DATE", help=help_text)


def _parse_moment(text: str) -> datetime:
    try:
        return parse_moment(text)
    except StockAssetsError as error:
        raise typer.BadParameter(str(error).rstrip(".")) from None


def _moment_option(help_text: str) -> Any:
    return typer.Option("--known-at", parser=_parse_moment, metavar="MOMENT", help=help_text)


def _port_option(help_text: str) -> Any:
    return typer.Option(min=1, max=65535, help=help_text)


DatasetId = Annotated[str, typer.Argument(metavar="ID", help="For example 20121231_183000.")]


@app.callback()
def global_options(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Daily stock-price forecasting as an asset graph."""
    _options["traceback"] = traceback


@app.command()
def up(
    dashboard_port: Annotated[int, _port_option("Port of the dashboard and the API.")] = 8000,
    dagster_port: Annotated[int, _port_option("Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, _port_option("Port of the MLflow UI.")] = 5000,
) -> None:
    """Run everything in the foreground: database, dashboard, Dagster UI and daemon, MLflow UI."""
    from stock_assets.cli.services import Ports, run_services

    run_services(console, Ports(dashboard_port, dagster_port, mlflow_port))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, _port_option("Port to listen on.")] = 8000,
    allow_anyone: Annotated[
        bool,
        typer.Option(
            "--allow-anyone", help="Require no API key, even if other machines have access."
        ),
    ] = False,
) -> None:
    """Serve the dashboard and the JSON API; both are read-only."""
    from stock_assets.cli.serve import serve as run_server
    from stock_assets.service.settings import find_settings

    run_server(console, find_settings(host, port, allow_anyone=allow_anyone))


@app.command()
def demo() -> None:
    """Run the whole loop on the sample prices and summarise it. Running it again is harmless."""
    from stock_assets.cli.demo import run_demo

    run_demo(open_platform(), console)


@app.command()
def env(
    write: Annotated[
        bool, typer.Option("--write", help="Also write them to .env in the project folder.")
    ] = False,
) -> None:
    """Start the database and print the exports that plain dagster and mlflow commands need."""
    import shlex

    from stock_assets.cli.platform import write_env_file

    platform = open_platform(keep=True)
    for name, value in platform.variables.items():
        print(f"export {name}={shlex.quote(value)}")  # noqa: T201 - for eval
    if write:
        write_env_file(platform.locations.project / ".env", platform.variables)


@app.command()
def retrain(
    as_of: Annotated[
        date | None, _date_option("--as-of", "The newest session to train on.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Repeat or finish the retraining of an existing dataset.")
    ] = None,
    known_at: Annotated[
        datetime | None,
        _moment_option("Read prices as known at this moment; default: the dataset's, or now."),
    ] = None,
) -> None:
    """Train a candidate as of a session (default: the last stored) and decide on its promotion."""
    from stock_assets.cli.loop import retrain_as_of, retrain_dataset

    if as_of is not None and dataset is not None:
        raise StockAssetsError("--as-of and --dataset exclude each other", "Use one of them")
    platform = open_platform()
    if dataset is not None:
        retrain_dataset(platform, console, dataset, known_at)
    else:
        retrain_as_of(platform, console, as_of, known_at)


@app.command()
def predict(
    day: Annotated[
        date | None, _date_option("--date", "As-of session; default: the last stored.")
    ] = None,
) -> None:
    """Forecast the session after DATE with a model that saw nothing later than DATE.

    The model is the one in production, or the newest one ever in force if that saw later sessions.
    """
    from stock_assets.cli.loop import predict_as_of

    predict_as_of(open_platform(), console, day)


@app.command()
def backfill(
    assets: Annotated[list[str], typer.Argument(help="Daily assets, in any order.")],
    first: Annotated[date, _date_option("--from")],
    last: Annotated[date, _date_option("--to")],
) -> None:
    """Materialize daily assets for every session from one date to another, as one run.

    Daily assets are raw_prices, predictions and performance_log.
    """
    from stock_assets.cli.loop import backfill_assets

    backfill_assets(open_platform(), console, assets, first, last)


@app.command()
def refetch(
    tickers: Annotated[list[str], typer.Argument(help="Tickers to fetch again.")],
) -> None:
    """Fetch whole histories again and accept them, even where they contradict the stored ones."""
    from stock_assets.cli.loop import refetch_tickers

    refetch_tickers(open_platform(), console, tickers)


@app.command()
def prices(
    ticker: Annotated[str, typer.Argument(help="For example AAPL.")],
    first: Annotated[date | None, _date_option("--from", "First session.")] = None,
    last: Annotated[date | None, _date_option("--to", "Last session.")] = None,
    as_of: Annotated[
        date | None, _date_option("--as-of", "Adjust as of this session; default: the last known.")
    ] = None,
    known_at: Annotated[
        datetime | None,
        _moment_option("Show prices as known at this moment, such as 2026-11-30T21:00:00Z."),
    ] = None,
    basis: Annotated[Basis, typer.Option(help="Price basis.")] = "adjusted",
    as_json: AsJson = False,
) -> None:
    """Show the bars of a ticker, now or as they were known at a moment."""
    from stock_assets.cli.prices import gather_prices, show_prices

    found = gather_prices(open_platform().engine, ticker, first, last, as_of, known_at, basis)
    output(found, show_prices, as_json=as_json)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the state of the loop: prices, production, forecasts, scores and decisions."""
    from stock_assets.cli.status import gather_status, show_status

    output(gather_status(open_platform()), show_status, as_json=as_json)


@app.command()
def verify(
    every: Annotated[
        bool, typer.Option("--all", help="Show every fault, not only the first.")
    ] = False,
    restored: Annotated[
        bool,
        typer.Option("--accept-restore", help="First accept links lost with a restored backup."),
    ] = False,
    why: Annotated[str | None, typer.Option(help="What happened, for --accept-restore.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that nothing in the record was changed; exit status 1 if something was."""
    from stock_assets.cli import verify as command

    if restored != bool(why):
        raise StockAssetsError(
            "--accept-restore and --why TEXT go together", "Give both, or neither"
        )
    if why:
        command.accept_restore(open_platform(), why)
    found = command.verify_record(open_platform(), every=every)
    output(found, command.show_record, as_json=as_json)
    raise typer.Exit(0 if found["holds"] else 1)


@app.command()
def prove(
    forecast: Annotated[
        str | None,
        typer.Argument(metavar="[FORECAST]", help="AS_OF/TICKER[/HORIZON], or an issue's number."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Prove N forecasts, drawn at random.")
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train each network again and compare its weights.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute a forecast again from the rows known then; exit status 1 if anything differs."""
    from stock_assets.cli import prove as command

    if (forecast is None) == (sample is None):
        raise StockAssetsError("name a forecast, or draw some with --sample N", "Use one of them")
    found = command.prove_forecasts(open_platform(), forecast or sample, retrain_again=retrain)
    output(found, command.show_proofs, as_json=as_json)
    raise typer.Exit(0 if found["holds"] else 1)


@dataset_commands.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """List the datasets, newest first."""
    from stock_assets.cli.datasets import show_datasets
    from stock_assets.storage import datasets

    output(datasets.list_datasets(open_platform().engine), show_datasets, as_json=as_json)


@dataset_commands.command("show")
def show_dataset(dataset: DatasetId, as_json: AsJson = False) -> None:
    """Show the inputs of a dataset, its build environment and the models trained on it."""
    from stock_assets.cli import datasets

    found = datasets.gather_dataset(open_platform(), dataset)
    output(found, datasets.show_dataset, as_json=as_json)


@dataset_commands.command("verify")
def verify_dataset(dataset: DatasetId, as_json: AsJson = False) -> None:
    """Rebuild a dataset from the rows that it read and compare; exit status 1 if they differ."""
    from stock_assets.cli import datasets

    found = datasets.verify_dataset(open_platform(), dataset)
    output(found, datasets.show_verification, as_json=as_json)
    raise typer.Exit(0 if found["equal"] else 1)


@dataset_commands.command("export")
def export_dataset(
    dataset: DatasetId, file: Annotated[Path, typer.Argument(help="The Parquet file to write.")]
) -> None:
    """Write the features and labels of a dataset to a Parquet file."""
    from stock_assets.datasets.export import export_panel
    from stock_assets.storage.arrays import ArrayStore

    platform = open_platform()
    arrays = ArrayStore(platform.locations.arrays_url)
    rows = export_panel(platform.engine, arrays, dataset, file)
    console.print(f"{rows:,} rows: {file}", soft_wrap=True)


@database.command()
def start() -> None:
    """Start the embedded database and leave it running."""
    console.print(f"running: {open_platform(keep=True).locations.postgres_folder}")


@database.command()
def stop() -> None:
    """Stop the embedded database."""
    from stock_assets.core.locations import find_locations
    from stock_assets.storage import server

    console.print("stopped" if server.stop(find_locations()) else "not running")


@database.command()
def url() -> None:
    """Print the address of the database. Start it if necessary and leave it running."""
    from stock_assets.storage.database import STORE_URL_VARIABLE

    print(open_platform(keep=True).variables[STORE_URL_VARIABLE])  # noqa: T201 - for programs


@database.command()
def upgrade() -> None:
    """Create missing databases and migrate the tables."""
    open_platform()
    console.print("up to date")


def main() -> None:
    """Run the command line and print any error on one line.

    The exit status is 1 after an error, 2 after wrong usage and 130 after Ctrl-C.
    """
    # By default these signals end the process at once and leave the embedded database running.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP; keep that
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(app(standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        help_command = f"{error.ctx.command_path if error.ctx else 'stock-assets'} --help"
        _print_error(str(StockAssetsError(error.format_message(), f"See {help_command}")))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(128 + signal.SIGINT)
    except StockAssetsError as error:
        _print_error(str(error), getattr(error, "details", ""))
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - unexpected errors also get one line
        first = _PASSWORD.sub(r"\1:***@", str(error).strip().partition("\n")[0])
        message = ": ".join(filter(None, (type(error).__name__, first.rstrip("."))))
        hint = "" if _options["traceback"] else " Add --traceback to see where."
        _print_error(f"{message}.{hint}")
        sys.exit(1)


def _print_error(message: str, details: str = "") -> None:
    if _options["traceback"]:
        stderr.print_exception()
        stderr.print(details, markup=False)
    stderr.print(f"[red]error:[/red] {escape(message)}")


if __name__ == "__main__":
    main()
