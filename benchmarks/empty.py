"""A job with as many empty steps as the daily job, for comparison."""

import dagster as dg

from stock_assets.config import Params
from stock_assets.defs.partitions import trading_days

DAYS = trading_days(Params())


def empty_asset(name: str, upstream: list[str], check: str | None) -> dg.AssetsDefinition:
    """Return an asset that does nothing, with a passing check if the real asset has checks."""

    @dg.asset(
        name=name,
        partitions_def=DAYS,
        deps=upstream,
        check_specs=[dg.AssetCheckSpec(check, asset=name, blocking=True)] if check else None,
    )
    def nothing() -> dg.MaterializeResult:  # type: ignore[type-arg]
        results = [dg.AssetCheckResult(check_name=check, passed=True)] if check else None
        return dg.MaterializeResult(check_results=results)

    return nothing


empty_job = dg.define_asset_job(
    "empty", selection=dg.AssetSelection.all(), executor_def=dg.in_process_executor
)


def graph() -> dg.Definitions:
    """Build the empty graph."""
    return dg.Definitions(
        assets=[
            empty_asset("prices", [], "sound"),
            empty_asset("forecasts", ["prices"], "sound"),
            empty_asset("scores", ["prices", "forecasts"], None),
        ],
        jobs=[empty_job],
    )
