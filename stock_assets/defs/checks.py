"""Blocking checks: how results are recorded, what a failed one stops, and what is refused later.

When a blocking check fails, its result is on record in Dagster and in the table ``check_results``,
and the step fails. The assets of a dataset then store nothing. ``raw_prices`` stores the valid
bars, and ``predictions`` the forecasts of the valid sessions; the sessions that passed are
materialized one by one first. Until a newer result passes, downstream assets refuse the partition.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Any

import dagster as dg
import pandas as pd

from stock_assets.core.errors import StockAssetsError
from stock_assets.core.text import truncate
from stock_assets.defs.partitions import DATE_FORMAT, session_key
from stock_assets.defs.resources import Store
from stock_assets.market.bars import content_digest
from stock_assets.storage.check_results import CheckRecord, failed_checks, save_check_results

_MOST_NAMED = 5


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
    context: dg.AssetExecutionContext,
    store: Store,
    results: Sequence[dg.AssetCheckResult],
    failed: Mapping[str, Collection[str]] | None = None,
    unchecked: Collection[str] = (),
) -> None:
    """Store check results in ``check_results``, one row per span of partitions with one result.

    Parameters
    ----------
    context : AssetExecutionContext
    store : Store
    results : sequence of AssetCheckResult
    failed : mapping of str to collection of str, optional
        For each check, the partitions it failed for, of the run or of others. A check without an
        entry has the same result for all partitions of the run.
    unchecked : collection of str
        Partitions of the run that the checks did not see.
    """
    checked = sorted(set(context.partition_keys) - set(unchecked))
    records = []
    for result in results:
        bad = (failed or {}).get(str(result.check_name))
        is_failed = {key: None if bad is None else key in bad for key in checked}
        spans = [(failure, list(keys)) for failure, keys in groupby(checked, is_failed.get)]
        spans += [(True, [key]) for key in sorted(set(bad or ()) - set(context.partition_keys))]
        for is_bad, keys in spans:
            error = result.severity is dg.AssetCheckSeverity.ERROR
            message = str(result.description)
            records.append(
                CheckRecord(
                    dagster_run_id=context.run.run_id,
                    asset=context.asset_key.to_user_string(),
                    check_name=str(result.check_name),
                    first_partition=keys[0],
                    last_partition=keys[-1],
                    passed=result.passed if is_bad is None else not is_bad,
                    severity="error" if error else "warning",
                    message=f"no error here; the whole run: {message}"
                    if is_bad is False
                    else message,
                )
            )
    save_check_results(store.engine, records)


def record_filled(
    context: dg.AssetExecutionContext, store: Store, partitions: Sequence[str]
) -> None:
    """Store a passing result where a check of partitions failed that a later run has completed."""
    asset = context.asset_key.to_user_string()
    records = [
        CheckRecord(
            dagster_run_id=context.run.run_id,
            asset=asset,
            check_name=failure.check_name,
            first_partition=failure.partition,
            last_partition=failure.partition,
            passed=True,
            severity="error",
            message="the missing bars were filled",
        )
        for failure in failed_checks(store.engine, asset, partitions)
    ]
    save_check_results(store.engine, records)


def enforce_checks(
    context: dg.AssetExecutionContext, store: Store, results: Sequence[dg.AssetCheckResult]
) -> Iterator[dg.AssetCheckResult]:
    """Record and yield check results, then fail if a blocking one failed.

    Raises
    ------
    StockAssetsError
        A blocking check failed; the step must not store anything.
    """
    persist_check_results(context, store, results)
    yield from results
    for result in filter(is_blocking_failure, results):
        raise StockAssetsError(
            f"{result.check_name} failed: {result.description}",
            "Nothing was stored; see the check in the Dagster UI",
        )


def enforce_session_checks(
    context: dg.AssetExecutionContext,
    store: Store,
    results: Sequence[dg.AssetCheckResult],
    failed: Mapping[str, Collection[date]],
    stored: pd.DataFrame,
    column: str,
    upstream: Mapping[str, str] | None = None,
) -> Iterator[dg.AssetCheckResult | dg.AssetMaterialization]:
    """Record and yield check results; if some sessions failed, materialize the others and fail.

    Parameters
    ----------
    context : AssetExecutionContext
    store : Store
    results : sequence of AssetCheckResult
    failed : mapping of str to collection of date
        For each blocking check that failed, the sessions it failed for.
    stored : DataFrame
        What was stored of this run's sessions.
    column : str
        The column with the session.
    upstream : mapping of str to str, optional
        Partitions of the run that were refused because of an upstream check, with the reason.

    Raises
    ------
    StockAssetsError
        A blocking check failed, here or upstream; the message names the sessions.
    """
    upstream = upstream or {}
    spans = {name: {session_key(day) for day in days} for name, days in failed.items()}
    persist_check_results(context, store, results, spans, upstream)
    yield from results
    refused = sorted({key for keys in spans.values() for key in keys} | upstream.keys())
    if not refused:
        return
    asset = context.asset_key.to_user_string()
    days = stored[column].dt.strftime(DATE_FORMAT)
    for key, rows in stored[~days.isin(refused)].groupby(days):
        yield dg.AssetMaterialization(
            asset,
            partition=str(key),
            metadata={"dagster/row_count": len(rows)},
            tags={"dagster/data_version": content_digest(rows)},
        )
    if upstream:
        key, reason = next(iter(upstream.items()))
        raise StockAssetsError(
            f"refused: {', '.join(truncate(refused, _MOST_NAMED))}; {reason}",
            f"Fix the cause, run its asset of {key} again, then these sessions",
        )
    raise StockAssetsError(
        f"{', '.join(spans)} failed for {', '.join(truncate(refused, _MOST_NAMED))}",
        "See the rows of the check in the Dagster UI, then run these sessions again",
    )


def is_blocking_failure(result: dg.AssetCheckResult) -> bool:
    """Return whether a result stops the step: a failure with severity error."""
    return not result.passed and result.severity is dg.AssetCheckSeverity.ERROR


def require_passed(store: Store, upstream: Mapping[str, Sequence[str]]) -> None:
    """Fail where the newest result of a blocking check of an upstream partition failed.

    Rows of an earlier run that passed may still be stored: they are not used.

    Parameters
    ----------
    store : Store
    upstream : mapping of str to sequence of str
        The partitions that are read of each asset.

    Raises
    ------
    StockAssetsError
        The message names the partition, the check and its message.
    """
    for asset, partitions in upstream.items():
        failed = failed_checks(store.engine, asset, partitions)
        if failed:
            first = failed[0]
            others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise StockAssetsError(
                f"{asset} of {first.partition} failed {first.check_name}{others}: {first.message}",
                f"Fix the cause and run {asset} of {first.partition} again",
            )


def refused_upstream(store: Store, asset: str, partitions: Sequence[str]) -> dict[str, str]:
    """Return the partitions of an upstream asset that may not be read, with the reason.

    Raises
    ------
    StockAssetsError
        None of the partitions may be read.
    """
    failed = failed_checks(store.engine, asset, partitions)
    refused = {
        one.partition: f"{asset} of {one.partition} failed {one.check_name}: {one.message}"
        for one in reversed(failed)
    }
    if len(refused) == len(partitions):
        require_passed(store, {asset: partitions})
    return dict(sorted(refused.items()))


def require_dataset_passed(store: Store, dataset_id: str) -> None:
    """Fail where a check of a dataset's panel or scalers failed, see :func:`require_passed`."""
    require_passed(store, {"processed_features": [dataset_id], "scalers": [dataset_id]})
