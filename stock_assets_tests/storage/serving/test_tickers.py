"""Lists of tickers, and renames."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import Engine, insert

from stock_assets.storage.serving.tickers import list_tickers, name_since_rename
from stock_assets.storage.tables import ticker_renames
from stock_assets_tests.storage.examples import DAYS, bars, store_bars
from stock_assets_tests.tampering import tampering


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


@pytest.mark.parametrize(
    ("ticker", "expected"),
    [
        ("FB", ("METAS", date(2024, 1, 2))),  # renamed twice
        ("META", ("METAS", date(2024, 1, 2))),
        ("METAS", None),
        ("Y", ("X", date(2023, 5, 1))),  # there and back
        ("NONE", None),
    ],
)
def test_a_rename_is_followed_to_the_current_name(
    engine: Engine, ticker: str, expected: tuple[str, date] | None
) -> None:
    renames = [
        ("FB", "META", date(2022, 6, 9)),
        ("META", "METAS", date(2024, 1, 2)),
        ("X", "Y", date(2021, 5, 3)),
        ("Y", "X", date(2023, 5, 1)),
    ]
    names = ("old_ticker", "new_ticker", "first_session")
    with tampering(engine) as connection:
        rows = [{**dict(zip(names, rename, strict=True)), "rows": 1} for rename in renames]
        connection.execute(insert(ticker_renames), rows)
    assert name_since_rename(engine, ticker) == expected
