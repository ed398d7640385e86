"""The whole graph joined: what Dagster loads."""

from __future__ import annotations

import dagster as dg

from stock_assets.assets.dataset import processed_features, scaled_features, scalers
from stock_assets.assets.forecast import predictions
from stock_assets.assets.performance import performance_log
from stock_assets.assets.prices import raw_prices
from stock_assets.assets.promotion import production_model, promotion
from stock_assets.assets.training import candidate_model, tuned_params
from stock_assets.automation.jobs import daily_job, retraining_job
from stock_assets.automation.schedules import daily_schedule
from stock_assets.automation.sensors import retrain_on_breach, score_when_forecasting_failed
from stock_assets.config import find_locations, load_params
from stock_assets.resources import resources

_params = load_params(find_locations().params_file)

defs = dg.Definitions(
    assets=[
        raw_prices,
        processed_features,
        scalers,
        scaled_features,
        tuned_params,
        candidate_model,
        promotion,
        production_model,
        predictions,
        performance_log,
    ],
    jobs=[daily_job, retraining_job],
    schedules=[daily_schedule(_params)],
    sensors=[retrain_on_breach, score_when_forecasting_failed],
    resources=resources(_params),
)
