"""The whole graph, joined: what Dagster loads.

``dg.load_from_defs_folder`` would call a ``@dg.definitions`` function in each folder of ``defs/``,
and each would have to read params.yaml. Here it is read once and handed to the folders.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg

from stock_assets.config import Params, load_params
from stock_assets.core.locations import find_locations
from stock_assets.defs.automation import (
    daily_job,
    daily_schedule,
    retrain_on_breach,
    retraining_job,
    score_when_forecasting_failed,
)
from stock_assets.defs.dataset.assets import dataset_assets
from stock_assets.defs.forecasting.assets import forecasting_assets
from stock_assets.defs.partitions import forecasts_reaching, trading_days
from stock_assets.defs.prices.assets import price_assets
from stock_assets.defs.promotion.assets import promotion_assets
from stock_assets.defs.resources import resources
from stock_assets.defs.training.assets import training_assets


def build_definitions(params: Params) -> dg.Definitions:
    """Build the graph of some parameters."""
    days = trading_days(params)
    assets = [
        *price_assets(days),
        *dataset_assets(),
        *training_assets(params),
        *promotion_assets(params),
        *forecasting_assets(days, forecasts_reaching(params)),
    ]
    return dg.Definitions(
        assets=_with_links_to_code(assets),
        jobs=[daily_job, retraining_job],
        schedules=[daily_schedule(params)],
        sensors=[retrain_on_breach, score_when_forecasting_failed],
        resources=resources(params),
    )


def _with_links_to_code(
    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec],
) -> Sequence[Any]:
    """Let the catalogue link to the source of each asset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # stable in use (dagster 1.13)
        return dg.with_source_code_references(assets)


@dg.definitions
def defs() -> dg.Definitions:
    """Build the graph of this installation's params.yaml."""
    return build_definitions(load_params(find_locations().params_file))
