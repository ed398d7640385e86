"""The two jobs of the loop."""

import dagster as dg

from stock_assets.defs.dataset.assets import processed_features, scaled_features, scalers
from stock_assets.defs.forecasting.forecasts import predictions
from stock_assets.defs.forecasting.performance import performance_log
from stock_assets.defs.prices.assets import raw_prices
from stock_assets.defs.promotion.assets import promotion
from stock_assets.defs.training.candidate import candidate_model
from stock_assets.defs.training.tuning import tuned_params

RETRAINING_TAG = "stock_assets/retraining"

daily_assets = [raw_prices, predictions, performance_log]
retraining_assets = [
    processed_features,
    scalers,
    scaled_features,
    tuned_params,
    candidate_model,
    promotion,
]

daily_job = dg.define_asset_job(
    "daily",
    selection=daily_assets,
    description="Fetch the session's prices, forecast the next one, score what came due.",
    executor_def=dg.in_process_executor,
    tags={"stock_assets/job": "daily"},
)

retraining_job = dg.define_asset_job(
    "retraining",
    selection=retraining_assets,
    description=(
        "A new dataset, its scalers, tuned hyperparameters, candidate and promotion decision. In "
        "one process unless the launch configuration chooses `multiprocess`."
    ),
    executor_def=dg.multi_or_in_process_executor,
    config={"execution": {"config": {"in_process": {}}}},
    tags={RETRAINING_TAG: "yes"},
)
