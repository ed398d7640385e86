"""The dashboard: one module per page."""

from __future__ import annotations

from fastapi import APIRouter

from stock_assets.service.pages import (
    models,
    operations,
    performance,
    ticker,
    today,
)

router = APIRouter(include_in_schema=False)
for module in (today, ticker, performance, models, operations):
    router.include_router(module.router)
