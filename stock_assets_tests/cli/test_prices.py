"""`stock-assets prices`: the bars of a ticker as they were known at a moment."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime

import pandas as pd
import pytest
from rich.console import Console
from sqlalchemy import Engine

from stock_assets.cli.prices import gather_prices, show_prices
from stock_assets.config import Rename
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import parse_moment
from stock_assets.storage.renames import apply_renames
from stock_assets_tests.cli.conftest import Command
from stock_assets_tests.storage.examples import DAYS, bars, store_bars


def gather(
    engine: Engine,
    ticker: str = "A",
    first: date | None = None,
    last: date | None = None,
    as_of: date | None = None,
    known_at: datetime | None = None,
) -> dict[str, object]:
    return gather_prices(engine, ticker, first, last, as_of, known_at, "adjusted")


def test_prices_are_shown_as_they_were_known(engine: Engine) -> None:
    store_bars(engine, bars("A"))
    before = gather(engine)
    store_bars(engine, bars("A", close=200.0))
    after = gather(engine)
    moment = parse_moment(str(before["known_at"]))
    assert gather(engine, known_at=moment) == before
    assert after["bars"][-1]["close"] > before["bars"][-1]["close"] + 99
    assert after["bars"][-1]["known_since"] > before["bars"][-1]["known_since"]


def test_the_span_and_the_as_of_session_are_chosen(engine: Engine) -> None:
    store_bars(engine, bars("A"))
    sessions = [bar["session"] for bar in gather(engine, "a", DAYS[2], DAYS[4])["bars"]]
    assert sessions == DAYS[2:5]
    assert gather(engine, as_of=DAYS[3])["as_of_session"] == DAYS[3]
    assert gather(engine, as_of=DAYS[3])["bars"][-1]["session"] == DAYS[3]
    assert len(gather(engine)["bars"]) == 20 < len(DAYS)


def test_bars_loaded_later_are_counted(engine: Engine) -> None:
    store_bars(engine, bars("A"))
    console = Console(record=True, width=200)
    show_prices(gather(engine), console)
    assert "20 of 20 bars became known after" in console.export_text()


def test_actions_are_shown_where_there_are_some(engine: Engine) -> None:
    plain, console = bars("A"), Console(record=True, width=80)
    store_bars(engine, plain)
    show_prices(gather(engine), console)
    assert "action" not in console.export_text()
    at = plain["session"] == pd.Timestamp(DAYS[15])
    store_bars(engine, plain.assign(dividends=plain["dividends"].where(~at, 0.25)))
    show_prices(gather(engine), console)
    lines = [line for line in console.export_text().splitlines() if str(DAYS[15]) in line]
    assert ["div 0.25" in line for line in lines] == [True, True]
    assert "known since" in lines[1]


def test_unknown_prices_are_an_error(engine: Engine) -> None:
    with pytest.raises(StockAssetsError, match="no prices are stored for A"):
        gather(engine)
    store_bars(engine, bars("A"))
    moment = parse_moment(str(gather(engine)["known_at"]))
    store_bars(engine, bars("B"))
    for ticker, arguments, message in (
        ("Z", {}, "There are prices of A, B"),
        ("B", {"known_at": moment}, "no prices of B were known at"),
        ("A", {"as_of": date(2012, 1, 3)}, "no prices of A up to 2012-01-03 were known"),
        ("A", {"as_of": date(2013, 1, 5)}, "is not a trading session"),
        ("A", {"first": date(2014, 1, 2)}, "Its bars are from 2013-01-02 to 2013-01-31"),
        ("A", {"known_at": datetime(2999, 1, 1, tzinfo=UTC)}, "in the future"),
        ("A", {"known_at": datetime(2000, 1, 1, tzinfo=UTC)}, "the record begins at"),
    ):
        with pytest.raises(StockAssetsError, match=message):
            gather(engine, ticker, **arguments)


def test_the_error_names_a_new_name(engine: Engine) -> None:
    store_bars(engine, bars("A"))
    apply_renames(engine, [Rename(old="A", new="Z", first_session=date(2013, 2, 1))])
    with pytest.raises(StockAssetsError, match="renamed to Z on 2013-02-01"):
        gather(engine, "A")
    assert gather(engine, "Z")["ticker"] == "Z"


def test_the_command_prints_a_table_or_json(command: Command) -> None:
    printed = command("prices", "AAPL", "--basis", "raw").stdout
    found = json.loads(command("prices", "AAPL", "--basis", "raw", "--json").stdout)
    for bar in found["bars"]:
        assert re.search(rf"{bar['session']} .*{bar['close']:,.2f}", printed)


def test_a_moment_without_a_time_zone_is_refused(command: Command) -> None:
    line = command("prices", "AAPL", "--known-at", "2026-11-30").error
    assert "has no time zone. Write it as 2026-11-30T21:00:00Z" in line
