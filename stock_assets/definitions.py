"""The whole graph, which Dagster loads from here.

Most assets depend on ``params.yaml``: on its partitions, or on defaults of their settings. It is
read once, here. ``dg.load_from_defs_folder`` would read it once per folder of ``defs/``.
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
from stock_assets.defs.dataset.assets import processed_features, scaled_features, scalers
from stock_assets.defs.forecasting.assets import performance_log_asset, predictions_asset
from stock_assets.defs.partitions import forecasts_reaching, trading_days
from stock_assets.defs.prices.assets import raw_prices_asset
from stock_assets.defs.promotion.assets import production_model, promotion_asset
from stock_assets.defs.resources import resources
from stock_assets.defs.training.assets import candidate_model_asset, tuned_params_asset


def build_definitions(params: Params) -> dg.Definitions:
    """Build the graph for some parameters."""
    days = trading_days(params)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        raw_prices_asset(days),
        processed_features,
        scalers,
        scaled_features,
        tuned_params_asset(params),
        candidate_model_asset(params),
        promotion_asset(params),
        production_model,
        predictions_asset(days),
        performance_log_asset(days, forecasts_reaching(params)),
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
    """Link each asset to its source code in the catalogue."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # stable in use (dagster 1.13)
        return dg.with_source_code_references(assets)


@dg.definitions
def defs() -> dg.Definitions:
    """Build the graph for this installation's params.yaml."""
    return build_definitions(load_params(find_locations().params_file))
