"""Checks of ``raw_prices``, each over a group of the rules of :mod:`stock_assets.market.rules`."""

from datetime import date

import dagster as dg
import pandas as pd

from stock_assets.defs.checks import blocking_spec
from stock_assets.defs.metadata import table
from stock_assets.market.checks import rules_of
from stock_assets.pipeline.ingestion import Ingestion

CHECKS = {
    "bars_are_sound": (
        "Positive prices, low ≤ open and close ≤ high, one bar per ticker and session, on sessions "
        "only. A bar that breaks a rule is put in quarantine, not stored."
    ),
    "histories_agree": (
        "Settled sessions come back unchanged: same currency, no bar missing, closes not scaled by "
        "a factor. A ticker with another currency, such a factor or no session in common with its "
        "stored history is refused."
    ),
    "no_bar_is_missing": (
        "Every ticker has a bar for every session since its first one. The bars that did arrive "
        "are stored and used; missing ones are requested again."
    ),
    "moves_are_plausible": (
        "No jump without a corporate action, no repeated bar, no session without volume."
    ),
}

SPECS = [blocking_spec("raw_prices", name, description) for name, description in CHECKS.items()]


def price_checks(ingested: Ingestion) -> list[dg.AssetCheckResult]:
    """Return the results of all checks, each as severe as its worst finding."""
    return [_check(name, ingested) for name in CHECKS]


def failed_sessions(ingested: Ingestion) -> dict[str, set[date]]:
    """Return the sessions with an error, for each check that found any."""
    found = {name: _findings(name, ingested) for name in CHECKS}
    errors = {name: rows[rows["severity"] == "error"] for name, rows in found.items()}
    return {name: set(rows["session"].dt.date) for name, rows in errors.items() if not rows.empty}


def _findings(name: str, ingested: Ingestion) -> pd.DataFrame:
    return ingested.findings[ingested.findings["rule"].isin(rules_of(name))]


def _check(name: str, ingested: Ingestion) -> dg.AssetCheckResult:
    found = _findings(name, ingested)
    error = bool(found["severity"].eq("error").any())
    counts = (f"{rule}: {count}" for rule, count in found["rule"].value_counts().items())
    return dg.AssetCheckResult(
        check_name=name,
        passed=found.empty,
        severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
        metadata={
            "findings": len(found),
            "tickers": ", ".join(sorted(found["ticker"].unique())),
            "rows": table(found),
        },
        description="nothing found" if found.empty else "; ".join(counts),
    )
