"""`stock-assets verify`: an edit outside the record is named, with exit status 1."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stock_assets.defs import metadata
from stock_assets.storage.record_faults import KnownHead
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


def test_the_loss_of_links_is_accepted_once_with_a_reason(
    command: Command, looped: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = metadata.known_heads
    lost = KnownHead(10_000, "f" * 64, "run 7", "predictions", "2013-02-04")
    monkeypatch.setattr(metadata, "known_heads", lambda instance: [*known(instance), lost])
    assert command("verify", "--accept-restore").error
    assert command("verify", "--why", "the disk failed").error
    (fault,) = json.loads(command("verify", "--json").stdout)["faults"]
    assert (fault["part"], fault["link"]) == ("runs", 10_000)
    assert "predictions 2013-02-04" in fault["message"]
    accepted = command("verify", "--accept-restore", "--why", "the disk failed")
    assert (accepted.returncode, command("verify").returncode) == (0, 0)
    newest = "SELECT note, lost_links FROM record_links ORDER BY link DESC LIMIT 1"
    ((note, links),) = looped.rows(newest)
    assert note.startswith("the disk failed")
    assert [(link["link"], link["digest"]) for link in links] == [(lost.link, lost.digest)]
    assert "every link" in command("verify", "--accept-restore", "--why", "again").error
