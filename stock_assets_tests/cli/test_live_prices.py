"""The commands on live prices: a Yahoo on this machine behind the real library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pandas as pd
import pytest

from stock_assets.market.sources.sample import load_sample
from stock_assets_tests.cli.conftest import Command, Installation, free_port, new_installation
from stock_assets_tests.market import yahoo_faults as faults
from stock_assets_tests.market import yahoo_loopback

SATURDAY = datetime(2013, 3, 2, 12, tzinfo=UTC)
QUICK = {"requests_per_second": 1000, "attempts": 2, "backoff_seconds": 0.01}
FRIDAY = ("backfill", "raw_prices", "--from", "2013-03-01", "--to", "2013-03-01")


@pytest.fixture(scope="module")
def yahoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[yahoo_loopback.Yahoo]:
    folder = tmp_path_factory.mktemp("yahoo")
    with yahoo_loopback.serve(load_sample(), SATURDAY, folder) as running, running.reached():
        yield running


@pytest.fixture(scope="module")
def live() -> Iterator[Installation]:
    """An installation that asks Yahoo."""
    prices = {
        "source": "yahoo",
        "tickers": ["AAPL", "IBM"],
        "first_session": "2012-06-01",
        "yahoo": QUICK,
    }
    # Fewer tickers need more sessions to decide about retraining.
    with new_installation(prices=prices, monitoring={"window_sessions": 30}) as created:
        created.succeed("db", "start")
        yield created


def test_one_day_brings_the_whole_history(
    command: Command, live: Installation, yahoo: yahoo_loopback.Yahoo
) -> None:
    live.succeed(*FRIDAY)
    traded = load_sample().query("ticker in ('AAPL', 'IBM') and session >= '2012-06-01'")
    found = json.loads(command("status", "--json", at=live).stdout)
    assert found["prices"] == {
        "bars": len(traded),
        "tickers": 2,
        "first_session": "2012-06-01",
        "last_session": "2013-03-01",
    }
    assert (found["late_tickers"], found["quarantined_bars"]) == ({}, [])


def test_a_contradicting_history_is_refused_until_it_is_refetched(
    command: Command, live: Installation, yahoo: yahoo_loopback.Yahoo
) -> None:
    halved = load_sample().copy()
    prices = ["open", "high", "low", "close"]
    is_ibm = halved["ticker"].eq("IBM")
    halved[prices] = halved[prices].mask(is_ibm, (halved[prices] / 2).round(2))
    yahoo.list_anew(halved)
    assert "stock-assets refetch IBM" in command(*FRIDAY, at=live).error

    fetched = command("refetch", "ibm", at=live)
    assert fetched.returncode == 0, fetched.stderr
    stored = live.value(
        "SELECT close FROM raw_stock_data WHERE ticker = 'IBM' AND session = '2013-03-01'"
    )
    (truth,) = halved.loc[
        halved["ticker"].eq("IBM") & (halved["session"] == pd.Timestamp("2013-03-01")), "close"
    ]
    assert stored == pytest.approx(truth)


@pytest.mark.long
def test_an_impossible_bar_is_in_the_status(
    live: Installation, yahoo: yahoo_loopback.Yahoo
) -> None:
    yahoo.list_anew(load_sample())
    live.run(*FRIDAY)
    # An earlier test may have stored another history of IBM.
    assert live.run("refetch", "IBM").returncode == 0
    odd = load_sample().copy()
    odd.loc[odd["ticker"].eq("IBM") & (odd["session"] == pd.Timestamp("2012-12-31")), "low"] = 1e6
    yahoo.list_anew(odd)
    failed = live.run("refetch", "IBM")
    assert failed.returncode == 1
    assert "IBM 2012-12-31" in live.succeed("status")


@pytest.mark.long
def test_no_network_is_one_line(live: Installation) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    failed = live.run(*FRIDAY, https_proxy=nowhere)
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert "network" in line


def test_a_rate_limit_that_lasts_fails_the_run_in_one_line(
    command: Command, live: Installation, yahoo: yahoo_loopback.Yahoo
) -> None:
    yahoo.list_anew(load_sample())
    yahoo.always_answers(yahoo_loopback.EVERYONE, faults.limited)
    line = command(*FRIDAY, at=live).error
    yahoo.recover()
    assert "AAPL: " in line
    assert "limit" in line
