"""Tickers as they are served."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from stock_assets.storage.serving.tickers import list_tickers
from stock_assets_tests.storage.examples import DAYS, bars, store_bars


@pytest.mark.parametrize("universe", [[], ["A"], ["A", "C"]])
def test_the_universe_and_what_is_stored_are_listed_once(
    engine: Engine, universe: list[str]
) -> None:
    store_bars(engine, bars("AB"))
    rows = {row["ticker"]: row for row in list_tickers(engine, universe, 10)}
    assert list(rows) == sorted({"A", "B", *universe})
    for ticker, row in rows.items():
        assert row["in_universe"] == (ticker in universe)
        assert row["last_session"] == (DAYS[-1] if ticker in "AB" else None)
