"""The versioned JSON API: one module per resource."""

from __future__ import annotations

from fastapi import APIRouter

from stock_assets.service.api import (
    checks,
    datasets,
    decisions,
    drift,
    forecasts,
    lineage,
    models,
    performance,
    prices,
    production,
    record,
    retrainings,
    tickers,
)

router = APIRouter(prefix="/api/v1", generate_unique_id_function=lambda route: route.name)
for module in (
    *(tickers, forecasts, prices, performance, models, production, decisions, retrainings),
    *(datasets, lineage, checks, drift, record),
):
    router.include_router(module.router)
