"""Stage 1: bars of a trading day, as traded, from the chosen source into ``raw_stock_data``."""

from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from stock_assets.assets.common import DAILY, lineage, sessions_of, table, verdict
from stock_assets.config import Params, find_locations
from stock_assets.errors import StockAssetsError
from stock_assets.partitions import session_key
from stock_assets.resources import Store

if TYPE_CHECKING:
    import pandas as pd

    from stock_assets.market.sources.base import Fetch, PriceSource

SOUND = "bars_are_sound"
WHOLE = "no_bar_is_missing"


@dg.asset(
    **DAILY,
    group_name="prices",
    kinds={"python", "postgres"},
    code_version="1",
    description=(
        "One bar per ticker and session, **as traded**, with that day's dividends and splits. "
        "Adjusted prices are made on reading, as of a session. A bar that a source changes later "
        "is updated here and its old values are kept in `price_revisions`."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            SOUND,
            asset="raw_prices",
            blocking=True,
            description=(
                "Positive prices, low ≤ open and close ≤ high, one bar per ticker and session, "
                "on sessions only. Rows that break a rule are not stored."
            ),
        ),
        dg.AssetCheckSpec(
            WHOLE,
            asset="raw_prices",
            description=(
                "Every ticker has a bar for every session since its first one. "
                "A warning: the bars that did arrive are stored and used."
            ),
        ),
    ],
)
def raw_prices(
    context: dg.AssetExecutionContext,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """Fetch, check and store the bars of the run's sessions."""
    from stock_assets.market.bars import content_digest, missing_bars, violations
    from stock_assets.market.sources.catalogue import open_source
    from stock_assets.storage.prices import read_bars, store_bars

    sessions, tickers = sessions_of(context), params.prices.tickers
    source = open_source(params.prices, find_locations().project)
    fetch = source.fetch(tickers, sessions[0], sessions[-1])
    _require_bars(fetch, source, sessions)
    broken = violations(fetch.bars)
    sound = _without(fetch.bars, broken)
    stored = store_bars(store.engine, sound, source.name, context.run.run_id)
    held = read_bars(store.engine, params.prices.first_session, sessions[-1], tickers)
    listed_since = held.groupby("ticker")["session"].min().dt.date.to_dict()
    missing = missing_bars(fetch.bars, tickers, sessions, listed_since)

    for session, rows in sound["session"].dt.date.value_counts().items():
        context.add_asset_metadata({"dagster/row_count": rows}, partition_key=session_key(session))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(content_digest(sound)),
        metadata=lineage(
            source=source.name,
            first_session=sessions[0],
            last_session=sessions[-1],
            tickers=", ".join(sorted(sound["ticker"].unique())),
            bars=len(sound),
            inserted=stored.rows.inserted,
            updated=stored.rows.updated,
            revisions=stored.revisions,
            failed_tickers=dg.MetadataValue.json(fetch.failures),
            missing_bars=dg.MetadataValue.json(missing),
        ),
        check_results=[
            verdict(
                SOUND,
                broken.empty,
                {"violations": len(broken), "rows": table(broken)},
                "every bar is sound" if broken.empty else f"{len(broken)} violations, see rows",
            ),
            _completeness(missing, fetch.failures),
        ],
    )


def _completeness(missing: dict[str, int], failures: dict[str, str]) -> dg.AssetCheckResult:
    """Warn about the tickers without the bars that they should have."""
    named = ", ".join(sorted(missing.keys() | failures.keys()))
    return dg.AssetCheckResult(
        check_name=WHOLE,
        passed=not named,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "missing_bars": dg.MetadataValue.json(missing),
            "failed_tickers": dg.MetadataValue.json(failures),
        },
        description=f"bars are missing of {named}" if named else "no bar is missing",
    )


def _without(bars: "pd.DataFrame", broken: "pd.DataFrame") -> "pd.DataFrame":
    """Bars that break no rule."""
    if broken.empty:
        return bars
    named = broken.set_index(["ticker", "session"]).index
    return bars[~bars.set_index(["ticker", "session"]).index.isin(named)].reset_index(drop=True)


def _require_bars(fetch: "Fetch", source: "PriceSource", sessions: list[date]) -> None:
    """Fail when a session has no bar at all: an empty answer never reads as "no new data"."""
    arrived = set(fetch.bars["session"].dt.date)
    empty = next((session for session in sessions if session not in arrived), None)
    if empty is None:
        return
    if fetch.failures:
        ticker, reason = next(iter(fetch.failures.items()))
        raise StockAssetsError(
            f"source {source.name} gave no bar for {empty}; {ticker}: {reason}",
            "Check the network and prices.tickers in params.yaml, then run the partition again",
        )
    remedy = (
        f"Its newest session is {source.last_session}: "
        "choose sessions that it has, or another source"
        if source.last_session
        else "Run the partition again when the session's bars are out"
    )
    raise StockAssetsError(f"source {source.name} has no bar for {empty}", remedy)
