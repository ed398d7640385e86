"""The whole graph joined: what Dagster loads."""

from __future__ import annotations

import dagster as dg

from stock_assets.config import load_params
from stock_assets.core.locations import find_locations
from stock_assets.defs.automation.jobs import (
    daily_assets,
    daily_job,
    retraining_assets,
    retraining_job,
)
from stock_assets.defs.automation.schedules import daily_schedule
from stock_assets.defs.automation.sensors import retrain_on_breach, score_when_forecasting_failed
from stock_assets.defs.promotion.assets import production_model
from stock_assets.defs.resources import resources

_params = load_params(find_locations().params_file)

defs = dg.Definitions(
    assets=[*daily_assets, *retraining_assets, production_model],
    jobs=[daily_job, retraining_job],
    schedules=[daily_schedule(_params)],
    sensors=[retrain_on_breach, score_when_forecasting_failed],
    resources=resources(_params),
)
