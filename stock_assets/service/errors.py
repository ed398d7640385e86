"""What is told of a ticker that nothing is stored of."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from stock_assets.config.prices import TICKER
from stock_assets.service.app_state import AppState
from stock_assets.service.problems import not_found
from stock_assets.storage.serving.tickers import name_since_rename


def no_such_ticker(served: AppState, ticker: str) -> HTTPException:
    """Make the error to raise; one that was renamed is told its new name."""
    told = f"no prices are stored of a ticker called {ticker}"
    renamed = name_since_rename(served.engine, ticker) if TICKER.fullmatch(ticker) else None
    if renamed is not None:
        name, since = renamed
        told += f": since {since} it is called {name}, and its history is under that name"
    return not_found(told)
