"""The stages of the loop as commands: retrain, forecast, backfill, refetch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pandas as pd
from rich.console import Console, Group
from rich.table import Table

from stock_assets.cli.platform import Platform
from stock_assets.cli.runs import run_dataset, run_session, run_sessions
from stock_assets.cli.versions import current_history
from stock_assets.core.errors import StockAssetsError
from stock_assets.datasets.ids import dataset_as_of, new_dataset_id
from stock_assets.defs.automation import DAILY_ASSETS
from stock_assets.defs.partitions import datasets
from stock_assets.evaluation.forecast_issues import issued_text
from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION
from stock_assets.market import calendar
from stock_assets.storage.decisions import promotion_of
from stock_assets.storage.forecasts import predictions_as_of
from stock_assets.storage.prices import price_coverage, reset_fetch_start
from stock_assets.storage.record import link_at


def last_stored_session(platform: Platform) -> date:
    """Return the newest session with a stored bar.

    Raises
    ------
    StockAssetsError
        No bar is stored.
    """
    last = price_coverage(platform.engine).last_session
    if last is None:
        first = platform.params.prices.first_session
        raise StockAssetsError(
            "no prices are stored yet",
            f"Store some: stock-assets backfill raw_prices --from {first} --to DATE",
        )
    return last


def retrain_as_of(
    platform: Platform, console: Console, as_of: date | None, known_at: datetime | None = None
) -> str:
    """Add a dataset as of a session, run the retraining job on it, and return its id."""
    stored = last_stored_session(platform)
    session = stored if as_of is None else calendar.require_session(as_of)
    if session > stored:
        raise StockAssetsError(
            f"prices are stored up to {stored}, not {session}",
            f"Store the rest: stock-assets backfill raw_prices --from {stored} --to {session}",
        )
    existing = platform.instance.get_dynamic_partitions(str(datasets.name))
    dataset_id = new_dataset_id(session, datetime.now(UTC), existing)
    _retrain(platform, console, dataset_id, known_at)
    return dataset_id


def retrain_dataset(
    platform: Platform, console: Console, dataset_id: str, known_at: datetime | None = None
) -> None:
    """Run the retraining job again on an existing dataset."""
    dataset_as_of(dataset_id)
    existing = platform.instance.get_dynamic_partitions(str(datasets.name))
    if dataset_id not in existing:
        newest = ", ".join(sorted(existing)[-3:])
        raise StockAssetsError(
            f"there is no dataset {dataset_id}",
            f"The newest are {newest}" if newest else "Create one: stock-assets retrain",
        )
    _retrain(platform, console, dataset_id, known_at)


def _retrain(
    platform: Platform, console: Console, dataset_id: str, known_at: datetime | None
) -> None:
    current_history(platform)
    if known_at is not None:
        link_at(platform.engine, known_at)  # refused before a run is started
    console.print(f"[bold]Retraining[/bold] on dataset {dataset_id}")
    run_dataset(platform, console, dataset_id, known_at)
    decided = promotion_of(platform.engine, platform.params.tracking.model_name, dataset_id)
    if decided is not None:
        console.print(f"  {decided.reason}", soft_wrap=True)


def predict_as_of(platform: Platform, console: Console, day: date | None) -> None:
    """Materialize the forecasts as of a session and show them."""
    session = last_stored_session(platform) if day is None else calendar.require_session(day)
    _require_partition(platform, session)
    run_session(platform, console, ["predictions"], session)
    console.print(forecast_tables(predictions_as_of(platform.engine, [session])))


def backfill_assets(
    platform: Platform, console: Console, assets: Sequence[str], first: date, last: date
) -> None:
    """Materialize daily assets for the sessions from `first` to `last`, both included.

    Raises
    ------
    StockAssetsError
        An asset is unknown or not daily, or the range contains no session.
    """
    unknown = [name for name in assets if name not in DAILY_ASSETS]
    if unknown:
        raise StockAssetsError(
            f"{unknown[0]} is not an asset with trading-day partitions",
            f"Choose among {', '.join(DAILY_ASSETS)}; for other assets: stock-assets retrain",
        )
    if first > last:
        raise StockAssetsError(f"--from {first} is later than --to {last}", "Swap the two")
    sessions = calendar.sessions(first, last)
    if not sessions:
        calendar.require_session(first)
    _require_partition(platform, sessions[0])
    _require_partition(platform, sessions[-1])
    console.print(
        f"[bold]Backfilling[/bold] {', '.join(assets)}: "
        f"{len(sessions):,} sessions, {sessions[0]} to {sessions[-1]}"
    )
    run_sessions(platform, console, assets, sessions)


def refetch_tickers(platform: Platform, console: Console, tickers: Sequence[str]) -> None:
    """Fetch the whole histories of tickers again and accept them as the source has them now.

    Raises
    ------
    StockAssetsError
        A ticker is not in ``prices.tickers``, or no price is stored.
    """
    names = [ticker.upper() for ticker in tickers]
    universe = platform.params.prices.tickers
    unknown = [ticker for ticker in names if ticker not in universe]
    if unknown:
        raise StockAssetsError(
            f"{unknown[0]} is not in prices.tickers ({', '.join(universe)})",
            "Correct the name, or add the ticker to params.yaml",
        )
    session = last_stored_session(platform)
    reset_fetch_start(platform.engine, names)
    console.print(f"[bold]Refetching[/bold] {', '.join(names)} up to {session}")
    run_session(platform, console, ["raw_prices"], session)


def _require_partition(platform: Platform, session: date) -> None:
    first = platform.params.prices.first_session
    today = datetime.now(ZoneInfo(calendar.TIMEZONE)).date()
    if session < first:
        raise StockAssetsError(
            f"{session} is before the first trading-day partition, {first}",
            "Choose a later date, or change prices.first_session in params.yaml",
        )
    if session > today:
        raise StockAssetsError(f"{session} is in the future", "Choose a date up to today")


def forecast_tables(forecasts: pd.DataFrame) -> Group:
    """Return one table per target session."""
    return Group(*(_table(rows) for _, rows in forecasts.groupby("target_session")))


def _table(forecasts: pd.DataFrame) -> Table:
    target = forecasts["target_session"].max()
    share = forecasts["coverage"].max()
    title = f"Forecast for {target:%A %Y-%m-%d}, {issued_text(forecasts['issued'])}"
    table = Table(title=title, title_justify="left")
    for heading in ("ticker", "last close", "forecast", "move", f"{share:.0%} interval", "model"):
        table.add_column(heading, justify="left" if heading == "ticker" else "right")
    for row in forecasts.itertuples():
        table.add_row(
            str(row.ticker),
            f"{row.last_close:,.2f}",
            f"{row.predicted_price:,.2f}",
            f"{row.predicted_return:+.2%}",
            f"{row.lower_price:,.2f} – {row.upper_price:,.2f}",
            "persistence" if row.model_version == PERSISTENCE_VERSION else f"v{row.model_version}",
        )
    return table
