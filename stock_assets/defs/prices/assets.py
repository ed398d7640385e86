"""Stage 1: bars of a trading day, as traded, from the chosen source into ``raw_stock_data``."""

from typing import TYPE_CHECKING

import dagster as dg

from stock_assets.config import Params
from stock_assets.core.locations import find_locations
from stock_assets.defs.metadata import DAILY, lineage, recorded, sessions_of, table
from stock_assets.defs.partitions import session_key
from stock_assets.defs.resources import Store

if TYPE_CHECKING:
    from stock_assets.ingestion import Ingestion

CHECKS = {
    "bars_are_sound": (
        "Positive prices, low ≤ open and close ≤ high, one bar per ticker and session, on sessions "
        "only. A bar that breaks a rule is put in quarantine, not stored."
    ),
    "histories_agree": (
        "What a source says of settled sessions is what it said before: the same currency, no bar "
        "gone, no factor between closes then and now. A ticker that breaks its history is refused."
    ),
    "no_bar_is_missing": (
        "Every ticker has a bar for every session since its first one. The bars that did arrive "
        "are stored and used; missing ones are asked for again."
    ),
    "moves_are_plausible": (
        "No jump without a corporate action, no bar repeated, no session without volume."
    ),
}


@dg.asset(
    **DAILY,
    group_name="prices",
    kinds={"python", "postgres"},
    code_version="2",
    description=(
        "One bar per ticker and session, **as traded**, with that day's dividends and splits. "
        "Adjusted prices are made on reading, as of a session. Each ticker is asked for from its "
        "last stored session on, so that missed sessions are filled, with an overlap: what a "
        "source changes later is updated here, with the old values in `price_revisions`."
    ),
    check_specs=[
        dg.AssetCheckSpec(name, asset="raw_prices", blocking=True, description=description)
        for name, description in CHECKS.items()
    ],
)
def raw_prices(
    context: dg.AssetExecutionContext,
    params: dg.ResourceParam[Params],
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """Fetch, check and store the bars of the run's sessions, and what is missing before them."""
    from stock_assets.ingestion import ingest, require_arrival
    from stock_assets.market.bars import content_digest
    from stock_assets.market.sources.catalogue import open_source
    from stock_assets.storage.database import advisory_lock
    from stock_assets.storage.prices import read_revisions

    sessions = sessions_of(context)
    source = open_source(params.prices, find_locations().project)
    # A run that fetched earlier must not store later: it would bring old values back.
    with advisory_lock(store.engine, "ingestion"):
        done = ingest(store.engine, source, params.prices, sessions, context.run.run_id)
    if not done.findings.empty:
        context.log.warning("What the checks found:\n%s", done.findings.to_string(max_rows=20))
    require_arrival(done, source, sessions, params.prices.minimum_share)

    for session, rows in done.bars["session"].dt.date.value_counts().items():
        context.add_asset_metadata({"dagster/row_count": rows}, partition_key=session_key(session))
    for session, rows in sorted(done.healed.items()):
        context.log_event(
            dg.AssetMaterialization(
                "raw_prices",
                f"{rows} bars that were missing",
                partition=session_key(session),
                metadata={"bars_filled": rows, "source": source.name},
            )
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(content_digest(done.bars)),
        metadata=lineage(
            source=source.name,
            first_session=sessions[0],
            last_session=sessions[-1],
            tickers=", ".join(sorted(done.bars["ticker"].unique())),
            bars=len(done.bars),
            **_outcome(done),
            revised=table(read_revisions(store.engine, context.run.run_id)),
        ),
        check_results=recorded(context, store, [_check(name, done) for name in CHECKS]),
    )


def _outcome(done: "Ingestion") -> dict[str, object]:
    """Describe what the run changed, and whose bars arrived."""
    return {
        "inserted": done.stored.bars.inserted,
        "updated": done.stored.bars.updated,
        "actions_changed": done.stored.actions.changed,
        "revisions": done.stored.revisions,
        "quarantined": done.quarantined,
        "sessions_healed": len(done.healed),
        "complete_tickers": len(done.complete),
        "late_tickers": dg.MetadataValue.json(done.late),
        "failed_tickers": dg.MetadataValue.json(done.failures),
    }


def _check(name: str, done: "Ingestion") -> dg.AssetCheckResult:
    """Give the outcome of a check: as severe as its worst finding."""
    from stock_assets.market.checks import rules_of

    found = done.findings[done.findings["rule"].isin(rules_of(name))]
    error = bool(found["severity"].eq("error").any())
    return dg.AssetCheckResult(
        check_name=name,
        passed=found.empty,
        severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
        metadata={
            "findings": len(found),
            "tickers": ", ".join(sorted(found["ticker"].unique())),
            "rows": table(found),
        },
        description="nothing found"
        if found.empty
        else "; ".join(f"{rule}: {count}" for rule, count in found["rule"].value_counts().items()),
    )
