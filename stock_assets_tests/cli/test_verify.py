"""`stock-assets verify`: an edit outside the record is named, with exit status 1."""

from __future__ import annotations

import json

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets_tests.cli.conftest import Command, Installation
from stock_assets_tests.tampering import tampering


def execute(installation: Installation, statement: str) -> None:
    engine = create_engine(installation.address("stock_assets"), poolclass=NullPool)
    with tampering(engine) as connection:
        assert connection.execute(text(statement)).rowcount == 1


def test_the_first_fault_or_every_one_is_shown(command: Command, looped: Installation) -> None:
    bar = "WHERE ticker = 'IBM' AND session = '2012-03-01'"
    forecast = "WHERE ticker = 'AAPL' AND as_of_session = '2013-01-31'"
    assert command("verify").returncode == 0
    execute(looped, f"UPDATE raw_stock_data SET volume = -volume {bar}")
    execute(looped, f"UPDATE predictions SET predicted_price = -predicted_price {forecast}")
    first, every = command("verify", "--json"), command("verify", "--all", "--json")
    execute(looped, f"UPDATE raw_stock_data SET volume = -volume {bar}")
    execute(looped, f"UPDATE predictions SET predicted_price = -predicted_price {forecast}")
    assert (first.returncode, every.returncode) == (1, 1)
    volume, price = json.loads(every.stdout)["faults"]
    assert json.loads(first.stdout)["faults"] == [volume]
    assert (volume["table"], volume["column"]) == ("raw_stock_data", "volume")
    assert volume["key"] == {"ticker": "IBM", "session": "2012-03-01"}
    assert (price["table"], price["column"]) == ("predictions", "predicted_price")
