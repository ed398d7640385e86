"""``raw_prices``: bars of a trading day, as traded, from the chosen source."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from stock_assets.config import Params
from stock_assets.core.locations import find_locations
from stock_assets.defs.checks import enforce_session_checks, record_filled
from stock_assets.defs.metadata import (
    add_session_metadata,
    daily,
    describe_table,
    head_metadata,
    plain_metadata,
    sessions_of,
    table,
)
from stock_assets.defs.partitions import session_key
from stock_assets.defs.prices.checks import SPECS, failed_sessions, price_checks
from stock_assets.defs.resources import Store
from stock_assets.market.bars import content_digest
from stock_assets.market.sources.catalogue import open_source
from stock_assets.pipeline.ingestion import Ingestion, arrival_error, ingest
from stock_assets.storage.database import advisory_lock
from stock_assets.storage.prices import read_revisions
from stock_assets.storage.tables import raw_stock_data


def raw_prices_asset(days: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    """Build ``raw_prices``, with one partition per trading day."""

    @dg.asset(
        **daily(days),
        group_name="prices",
        kinds={"python", "postgres"},
        code_version="2",
        metadata=describe_table(raw_stock_data),
        description=(
            "One bar per ticker and session, as traded, with that day's dividends and splits. "
            "Prices are adjusted on reading, as of a session. Each ticker is fetched from its last "
            "stored session on, with an overlap, so that missed sessions are filled and later "
            "changes of the source are found; `price_revisions` keeps the old values."
        ),
        check_specs=SPECS,
    )
    def raw_prices(
        context: dg.AssetExecutionContext,
        params: dg.ResourceParam[Params],
        store: dg.ResourceParam[Store],
    ) -> Iterator[dg.AssetCheckResult | dg.AssetMaterialization | dg.MaterializeResult]:
        """Fetch, check and store the bars of the run's sessions and those missing before them."""
        sessions = sessions_of(context)
        source = open_source(params.prices, find_locations().project)
        # A run that fetched earlier must not store later: it would bring old values back.
        with advisory_lock(store.engine, "ingestion"):
            ingested = ingest(store.engine, source, params.prices, sessions, context.run.run_id)
        if not ingested.findings.empty:
            found = ingested.findings.to_string(max_rows=20)
            context.log.warning("Findings of the checks:\n%s", found)
        failed = failed_sessions(ingested)
        incomplete = ingested.quarantined_sessions.union(*failed.values())
        filled = {day: rows for day, rows in ingested.healed.items() if day not in incomplete}
        shortfall = arrival_error(ingested, source, sessions, params.prices.minimum_share)
        if shortfall is None:
            record_filled(context, store, [session_key(day) for day in filled])
            for session, rows in sorted(filled.items()):
                yield _filled(session, rows, source.name)
        results = price_checks(ingested)
        yield from enforce_session_checks(context, store, results, failed, ingested.bars, "session")
        if shortfall is not None:
            raise shortfall
        add_session_metadata(context, ingested.bars, "session")
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(content_digest(ingested.bars)),
            metadata=plain_metadata(
                source=source.name,
                first_session=sessions[0],
                last_session=sessions[-1],
                **_outcome(ingested),
                revised=table(read_revisions(store.engine, context.run.run_id)),
                **head_metadata(store.engine),
            ),
        )

    return raw_prices


def _filled(session: date, bars: int, source: str) -> dg.AssetMaterialization:
    """Materialize a session outside the run whose missing bars arrived."""
    return dg.AssetMaterialization(
        "raw_prices",
        f"{bars} missing bars filled",
        partition=session_key(session),
        metadata={"bars_filled": bars, "source": source},
    )


def _outcome(ingested: Ingestion) -> dict[str, Any]:
    """Return what the run changed, and whose bars arrived."""
    return {
        "tickers": ", ".join(sorted(ingested.bars["ticker"].unique())),
        "bars": len(ingested.bars),
        "inserted": ingested.stored.bars.inserted,
        "updated": ingested.stored.bars.updated,
        "actions_changed": ingested.stored.actions.changed,
        "revisions": ingested.stored.revisions,
        "quarantined": ingested.quarantined,
        "sessions_healed": len(ingested.healed),
        "complete_tickers": len(ingested.complete),
        "late_tickers": dg.MetadataValue.json(ingested.late),
        "failed_tickers": dg.MetadataValue.json(ingested.failures),
    }
