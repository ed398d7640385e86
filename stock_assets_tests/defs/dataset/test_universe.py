"""The universe: tickers are added, removed and renamed in the parameters, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from sqlalchemy import text

from stock_assets.cli.platform import Platform
from stock_assets.config import Params, Rename, Tracking
from stock_assets.defs.resources import Store
from stock_assets.market.bars import tidy
from stock_assets.market.sources.history import COLUMNS
from stock_assets.market.sources.sample import load_sample
from stock_assets.registry import Registry
from stock_assets.storage.forecasts import predictions_as_of, read_performance
from stock_assets.storage.prices import read_bars, stored_histories
from stock_assets_tests.defs.running import by_partition, checks, failure, materialize, params
from stock_assets_tests.models.bundles import FIRST, bundle, sample_bars

DAY, NEXT = date(2013, 1, 4), date(2013, 1, 7)
RENAME = Rename(old="FB", new="META", first_session=NEXT)
TRACKING = Tracking(experiment="universe", model_name="Universe")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file per ticker of the sample."""
    made = tmp_path / "prices"
    made.mkdir()
    for ticker in ("AAPL", "FB", "GOOG", "IBM", "MSFT"):
        write(made, ticker, sample_bars().query("ticker == @ticker"))
    return made


def write(folder: Path, ticker: str, bars: pd.DataFrame) -> None:
    shown = bars.rename(columns={ours: theirs for theirs, ours in COLUMNS.items()})
    shown.drop(columns="ticker").to_csv(folder / f"{ticker}.csv", index=False)


def universe(folder: Path, tickers: Sequence[str], *renames: Rename) -> Params:
    prices = {
        "source": "csv",
        "csv_folder": folder,
        "first_session": FIRST,
        "tickers": list(tickers),
        "renames": list(renames),
    }
    return params(prices=prices, tracking=TRACKING.model_dump())


def run(assets: Sequence[Any], day: date, store: Store, params: Params) -> dict[str, Any]:
    """Run a day, require every check to pass, and return the metadata of its prices."""
    result = materialize(assets, day.isoformat(), store, params)
    assert result.success, failure(result)
    assert all(checks(result).values()), checks(result)
    return by_partition(result, "raw_prices")[day.isoformat()]


def history(store: Store, ticker: str) -> pd.DataFrame:
    return read_bars(store.engine, FIRST, NEXT, [ticker]).drop(columns="ticker")


def truth(ticker: str, last: date = NEXT) -> pd.DataFrame:
    bars = load_sample().query("ticker == @ticker and @FIRST <= session <= @last")
    return bars.drop(columns="ticker").reset_index(drop=True)


def test_a_ticker_that_is_added_has_its_whole_history_at_once(
    own_store: Store, folder: Path
) -> None:
    run(["raw_prices"], DAY, own_store, universe(folder, ["AAPL", "IBM"]))
    recorded = run(["raw_prices"], NEXT, own_store, universe(folder, ["AAPL", "IBM", "MSFT"]))
    assert recorded["inserted"] == len(truth("MSFT")) + 2
    for ticker in ("AAPL", "IBM", "MSFT"):
        pd.testing.assert_frame_equal(history(own_store, ticker), truth(ticker))


def test_a_removed_ticker_is_not_fetched_and_its_rows_stay(own_store: Store, folder: Path) -> None:
    run(["raw_prices"], DAY, own_store, universe(folder, ["AAPL", "IBM"]))
    (folder / "IBM.csv").unlink()
    recorded = run(["raw_prices"], NEXT, own_store, universe(folder, ["AAPL"]))
    assert (recorded["tickers"], recorded["inserted"], recorded["updated"]) == ("AAPL", 1, 0)
    pd.testing.assert_frame_equal(history(own_store, "IBM"), truth("IBM", DAY))


def test_a_ticker_added_again_fills_its_gap(own_store: Store, folder: Path) -> None:
    run(["raw_prices"], date(2013, 1, 2), own_store, universe(folder, ["AAPL", "IBM"]))
    run(["raw_prices"], DAY, own_store, universe(folder, ["AAPL"]))
    run(["raw_prices"], NEXT, own_store, universe(folder, ["AAPL", "IBM"]))
    pd.testing.assert_frame_equal(history(own_store, "IBM"), truth("IBM"))


def test_a_renamed_ticker_keeps_its_history(
    platform: Platform, own_store: Store, folder: Path, tmp_path: Path
) -> None:
    """Prices, forecasts and scores of two days: under the old name, and then under the new."""
    registry = Registry(TRACKING)
    registry.ensure_experiment()
    mlflow.set_experiment(TRACKING.experiment)
    with mlflow.start_run():
        registry.set_production_alias(registry.register(bundle(), sample_bars()).version)
    old, new = ["AAPL", "FB", "GOOG", "IBM", "MSFT"], ["AAPL", "GOOG", "IBM", "META", "MSFT"]
    run(["raw_prices", "predictions"], DAY, own_store, universe(folder, old))
    said = predictions_as_of(own_store.engine, [DAY]).set_index("ticker")["predicted_price"]

    write(folder, "META", sample_bars().query("ticker == 'FB'"))
    (folder / "FB.csv").unlink()
    edited = universe(folder, new, RENAME)
    recorded = run(["raw_prices", "predictions", "performance_log"], NEXT, own_store, edited)
    assert (recorded["inserted"], recorded["updated"], recorded["revisions"]) == (5, 0, 0)
    pd.testing.assert_frame_equal(history(own_store, "META"), truth("FB"))
    assert history(own_store, "FB").empty
    assert set(stored_histories(own_store.engine)) == set(new)

    bars = read_bars(own_store.engine, FIRST, NEXT)
    as_trained = tidy(bars.assign(ticker=bars["ticker"].replace({"META": "FB"})))
    expected = bundle().forecast(as_trained, [NEXT]).set_index("ticker")["predicted_price"]
    found = predictions_as_of(own_store.engine, [NEXT]).set_index("ticker")["predicted_price"]
    assert found.to_dict() == expected.rename({"FB": "META"}).to_dict()
    scored = read_performance(own_store.engine, NEXT, NEXT).set_index("ticker")["predicted"]
    assert scored.to_dict() == said.rename({"FB": "META"}).to_dict()
    with own_store.engine.connect() as connection:
        applied = connection.execute(text("SELECT old_ticker, new_ticker FROM ticker_renames"))
        assert [tuple(row) for row in applied] == [("FB", "META")]

    again = run(["raw_prices", "predictions", "performance_log"], NEXT, own_store, edited)
    assert (again["inserted"], again["updated"], again["revisions"]) == (0, 0, 0)


def test_two_companies_may_have_had_one_symbol(own_store: Store, folder: Path) -> None:
    run(["raw_prices"], DAY, own_store, universe(folder, ["AAPL", "FB"]))
    write(folder, "META", sample_bars().query("ticker == 'FB'"))
    write(folder, "FB", sample_bars().query("ticker == 'IBM' and session >= @NEXT"))
    run(["raw_prices"], NEXT, own_store, universe(folder, ["AAPL", "FB", "META"], RENAME))
    pd.testing.assert_frame_equal(history(own_store, "META"), truth("FB"))
    own = truth("IBM").query("session >= @NEXT").reset_index(drop=True)
    pd.testing.assert_frame_equal(history(own_store, "FB"), own)
