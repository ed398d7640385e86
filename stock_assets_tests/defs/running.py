"""Materialize single assets on the stores of a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from stock_assets.cli.runs import RANGE_END, RANGE_START
from stock_assets.config import Params, load_params
from stock_assets.core.locations import find_locations
from stock_assets.definitions import build_definitions
from stock_assets.defs.partitions import datasets
from stock_assets.defs.resources import Store, resources
from stock_assets.registry import Registry


def params(**sections: dict[str, object]) -> Params:
    """The suite's parameters with some values changed."""
    shipped = load_params(find_locations().params_file)
    changes = {
        name: getattr(shipped, name).model_copy(update=values) for name, values in sections.items()
    }
    return shipped.model_copy(update=changes)


def materialize(
    assets: Sequence[str | dg.AssetsDefinition],
    key: str,
    store: Store,
    params: Params,
    registry: Registry | None = None,
    instance: dg.DagsterInstance | None = None,
    last: str | None = None,
    config: dict[str, dict[str, Any]] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run assets, named or given; a failure is in the result, not raised.

    For the partition `key`, or for those from `key` to `last` in one run; with the run
    configuration `config` by asset.
    """
    graph = {asset.key.to_user_string(): asset for asset in build_definitions(params).assets}
    own = instance or dg.DagsterInstance.ephemeral()
    if "_" in key:
        own.add_dynamic_partitions(str(datasets.name), [key])
    given = resources(params) | {"store": store}
    return dg.materialize(
        [graph[asset] if isinstance(asset, str) else asset for asset in assets],
        partition_key=key if last is None else None,
        tags=None if last is None else {RANGE_START: key, RANGE_END: last},
        instance=own,
        resources=given if registry is None else given | {"registry": registry},
        run_config={
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            "ops": {name: {"config": values} for name, values in (config or {}).items()},
        },
        raise_on_error=False,
    )


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """Plain metadata of the only materialization of an asset in a run."""
    assert result.success, failure(result)
    (event,) = _own(result, asset)
    return {name: value.value for name, value in event.metadata.items()}


def _own(result: dg.ExecuteInProcessResult, asset: str) -> list[dg.AssetMaterialization]:
    """The materializations of an asset, without others that its step reports."""
    events = result.asset_materializations_for_node(asset)
    return [event for event in events if event.asset_key == dg.AssetKey(asset)]


def by_partition(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dict[str, Any]]:
    """Plain metadata of every partition of an asset in a run."""
    return {
        str(event.partition): {name: value.value for name, value in event.metadata.items()}
        for event in _own(result, asset)
    }


def data_version(result: dg.ExecuteInProcessResult, asset: str) -> str:
    """The data version of the only materialization of an asset in a run."""
    (event,) = _own(result, asset)
    return str(event.tags["dagster/data_version"])


def versions(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, str]:
    """The data version of every materialized partition of an asset in a run."""
    return {
        str(event.partition): event.tags["dagster/data_version"] for event in _own(result, asset)
    }


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Outcome of every check of a run."""
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Message of the error at the bottom of a failed run."""
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error.cause is not None:
            error = error.cause
        return str(error.message)
    raise AssertionError("no step failed")
