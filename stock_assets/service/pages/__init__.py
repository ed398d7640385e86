"""The dashboard: one module per page."""

from __future__ import annotations

from fastapi import APIRouter

from stock_assets.service.pages import (
    models,
    operations,
    performance,
    static_files,
    ticker,
    today,
)

router = APIRouter(include_in_schema=False)
for page in (today, ticker, performance, models, operations, static_files):
    router.include_router(page.router)
