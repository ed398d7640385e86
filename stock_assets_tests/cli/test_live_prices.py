"""The commands on live prices: a Yahoo on this machine behind the real library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pandas as pd
import pytest

from stock_assets.market.sources.sample import load_sample
from stock_assets_tests.cli.conftest import Installation, free_port, new_installation
from stock_assets_tests.market import yahoo_faults as faults
from stock_assets_tests.market import yahoo_loopback

pytestmark = pytest.mark.slow

SATURDAY = datetime(2013, 3, 2, 12, tzinfo=UTC)
QUICK = {"requests_per_second": 1000, "attempts": 2, "backoff_seconds": 0.01}
FRIDAY = ("backfill", "raw_prices", "--from", "2013-03-01", "--to", "2013-03-01")


@pytest.fixture(scope="module")
def yahoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[yahoo_loopback.Yahoo]:
    folder = tmp_path_factory.mktemp("yahoo")
    with yahoo_loopback.serve(load_sample(), SATURDAY, folder) as running:
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
    with new_installation(prices=prices, monitoring={"window_sessions": 30}) as made:
        yield made


def test_one_day_brings_the_whole_history(live: Installation, yahoo: yahoo_loopback.Yahoo) -> None:
    done = live.run(*FRIDAY, **yahoo.environment)
    assert done.returncode == 0, done.stderr
    traded = load_sample().query("ticker in ('AAPL', 'IBM') and session >= '2012-06-01'")
    told = json.loads(live.succeed("status", "--json"))
    assert told["prices"] == {
        "bars": len(traded),
        "tickers": 2,
        "first_session": "2012-06-01",
        "last_session": "2013-03-01",
    }
    assert (told["late_tickers"], told["quarantined_bars"]) == ({}, [])


def test_a_refused_history_is_told_with_the_command_that_takes_it(
    live: Installation, yahoo: yahoo_loopback.Yahoo
) -> None:
    halved = load_sample().copy()
    prices = ["open", "high", "low", "close"]
    is_ibm = halved["ticker"].eq("IBM")
    halved[prices] = halved[prices].mask(is_ibm, (halved[prices] / 2).round(2))
    yahoo.list_anew(halved)
    refused = live.run(*FRIDAY, **yahoo.environment)
    assert refused.returncode == 1
    assert "times those stored" in refused.stderr
    assert "stock-assets refetch IBM" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1

    taken = live.run("refetch", "ibm", **yahoo.environment)
    assert taken.returncode == 0, taken.stderr
    assert "Refetching IBM up to 2013-03-01" in taken.stdout
    assert live.run(*FRIDAY, **yahoo.environment).returncode == 0


def test_a_bar_that_is_not_believed_is_in_the_status(
    live: Installation, yahoo: yahoo_loopback.Yahoo
) -> None:
    odd = load_sample().copy()
    odd.loc[odd["ticker"].eq("IBM") & (odd["session"] == pd.Timestamp("2012-12-31")), "low"] = 1e6
    yahoo.list_anew(odd)
    failed = live.run("refetch", "IBM", **yahoo.environment)
    assert failed.returncode == 1
    assert "low is above open or close" in failed.stderr
    shown = live.succeed("status")
    assert "quarantine" in shown
    assert "IBM 2012-12-31: low is above open or close" in shown


def test_an_unknown_ticker_cannot_be_fetched_anew(live: Installation) -> None:
    refused = live.run("refetch", "XYZ")
    assert refused.returncode == 1
    assert refused.stderr == (
        "error: XYZ is not in prices.tickers (AAPL, IBM). "
        "Correct the name, or add the ticker to params.yaml.\n"
    )


def test_no_network_is_one_line(live: Installation) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    failed = live.run(*FRIDAY, https_proxy=nowhere)
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert "none of 2 tickers could be asked for" in line
    assert "Check the network" in line


def test_a_rate_limit_that_lasts_fails_the_run_and_says_so(
    live: Installation, yahoo: yahoo_loopback.Yahoo
) -> None:
    yahoo.list_anew(load_sample())
    yahoo.always_answers(yahoo_loopback.EVERYONE, faults.limited)
    failed = live.run(*FRIDAY, **yahoo.environment)
    yahoo.recover()
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert "AAPL: " in line
    assert "limit" in line
