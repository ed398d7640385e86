"""``stock-assets demo``: run the whole loop on real history through the production jobs."""

from __future__ import annotations

from datetime import date

import pandas as pd
from rich.console import Console

from stock_assets.cli.loop import forecast_tables, retrain_as_of, retrain_dataset
from stock_assets.cli.platform import Platform
from stock_assets.cli.report import describe, newest_forecasts, write_report
from stock_assets.cli.runs import run_sessions
from stock_assets.core.errors import StockAssetsError
from stock_assets.defs.partitions import datasets
from stock_assets.market import calendar
from stock_assets.pipeline.training_logs import training_history
from stock_assets.registry import Registry
from stock_assets.storage.decisions import promotion_of
from stock_assets.storage.forecasts import predictions_as_of, read_performance

AS_OF = date(2012, 12, 31)
REPLAY_END = date(2013, 2, 28)
HISTORY_END = date(2013, 3, 1)


def run_demo(platform: Platform, console: Console) -> None:
    """Store the sample prices, train as of the end of 2012, and replay two months.

    Finished stages are skipped: a second demo only shows the result, and an interrupted demo
    continues where it stopped.

    Raises
    ------
    StockAssetsError
        ``prices.source`` is not ``sample``, or ``prices.first_session`` is too late.
    """
    prices = platform.params.prices
    if prices.source != "sample":
        raise StockAssetsError(
            f"the demo runs on the sample prices, and prices.source is {prices.source}",
            "Set prices.source to sample in params.yaml, or run the stages one by one",
        )
    if prices.first_session > AS_OF:
        raise StockAssetsError(
            f"the demo trains on sessions up to {AS_OF}, and prices.first_session is "
            f"{prices.first_session}",
            f"Set prices.first_session in params.yaml to a date in or before {AS_OF.year}",
        )
    _ingest(platform, console)
    _train(platform, console)
    _replay(platform, console)
    _summarize(platform, console)


def _ingest(platform: Platform, console: Console) -> None:
    sessions = calendar.sessions(platform.params.prices.first_session, HISTORY_END)
    missing = _not_materialized(platform, "raw_prices", sessions)
    console.print(f"[bold]1. Prices[/bold] {sessions[0]} to {sessions[-1]}")
    if missing:
        run_sessions(platform, console, ["raw_prices"], sessions)
    else:
        console.print("  already stored")


def _train(platform: Platform, console: Console) -> None:
    console.print(f"[bold]2. Model[/bold] as of {AS_OF}")
    started = [
        dataset_id
        for dataset_id in platform.instance.get_dynamic_partitions(str(datasets.name))
        if dataset_id.startswith(f"{AS_OF:%Y%m%d}_")
    ]
    if any(dataset_id in _materialized(platform, "promotion") for dataset_id in started):
        console.print("  already trained and decided")
    elif started:
        retrain_dataset(platform, console, started[-1])
    else:
        retrain_as_of(platform, console, AS_OF)


def _replay(platform: Platform, console: Console) -> None:
    sessions = calendar.sessions(AS_OF, REPLAY_END)
    console.print(f"[bold]3. Replay[/bold] {sessions[1]} to {sessions[-1]}, day by day")
    assets = ["predictions", "performance_log"]
    if any(_not_materialized(platform, name, sessions) for name in assets):
        run_sessions(platform, console, assets, sessions)
    else:
        console.print("  already forecast and scored")


def _not_materialized(platform: Platform, asset: str, sessions: list[date]) -> set[date]:
    return set(sessions) - set(map(date.fromisoformat, _materialized(platform, asset)))


def _materialized(platform: Platform, asset: str) -> set[str]:
    """Return the materialized partitions; a step records its materialization last."""
    import dagster as dg

    return platform.instance.get_materialized_partitions(dg.AssetKey(asset))


def _summarize(platform: Platform, console: Console) -> None:
    registry = Registry(platform.params.tracking)
    scored = read_performance(platform.engine, calendar.next_session(AS_OF), REPLAY_END)
    rows = newest_forecasts(scored)
    version = registry.version(int(rows["model_version"].iloc[-1]))
    trained = registry.evaluation_version(version)
    decided = promotion_of(platform.engine, registry.model_name, version.dataset, trained.version)
    newest = predictions_as_of(platform.engine, [REPLAY_END])
    summary = describe(rows, registry.model_name, version, decided)
    history = pd.DataFrame(training_history(registry.client(), trained.mlflow_run))
    folder, nominal = platform.locations.reports_folder / "demo", float(newest["coverage"].max())
    report = write_report(folder, rows, nominal, history, summary)
    console.print()
    console.print(forecast_tables(newest))
    console.print(summary, soft_wrap=True)
    console.print(f"\nReport with plots   {report}", soft_wrap=True)
    console.print("To explore          make up   (dashboard, Dagster and MLflow in the browser)")
