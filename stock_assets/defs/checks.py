"""Blocking checks: how a result is recorded, and what a failed one stops."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from stock_assets.defs.resources import Store
from stock_assets.storage.check_results import CheckRecord, save_check_results


def blocking_spec(asset: str, name: str, description: str) -> dg.AssetCheckSpec:
    """Declare a check whose failure stops everything downstream."""
    return dg.AssetCheckSpec(name, asset=asset, blocking=True, description=description)


def blocking_check(
    name: str, passed: bool, metadata: Mapping[str, Any], message: str
) -> dg.AssetCheckResult:
    """Return the result of a blocking check."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata=dict(metadata),
        description=message,
    )


def persist_check_results(
    context: dg.AssetExecutionContext, store: Store, results: Sequence[dg.AssetCheckResult]
) -> list[dg.AssetCheckResult]:
    """Store check results in ``check_results``, where the service reads them, and return them."""
    keys = sorted(context.partition_keys)
    records = [
        CheckRecord(
            dagster_run_id=context.run.run_id,
            asset=context.asset_key.to_user_string(),
            check_name=str(result.check_name),
            first_partition=keys[0],
            last_partition=keys[-1],
            passed=result.passed,
            severity="error" if result.severity is dg.AssetCheckSeverity.ERROR else "warning",
            message=str(result.description),
        )
        for result in results
    ]
    save_check_results(store.engine, records)
    return list(results)
