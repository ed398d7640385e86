"""Scores equal those of `summarise` over the stored log."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from stock_assets.evaluation.metrics import persistence_forecasts, score_rows, summarise
from stock_assets.storage.forecasts import read_performance
from stock_assets_tests.conftest import REPLAYED, Loop
from stock_assets_tests.service.api.client import get, get_all, get_problem


@pytest.fixture(scope="module")
def log(loop: Loop) -> pd.DataFrame:
    """The scored forecasts."""
    return read_performance(loop.store.engine, *REPLAYED)


def assert_scores(item: dict[str, Any], window: pd.DataFrame) -> None:
    scores = asdict(summarise(window))
    persistence = summarise(score_rows(persistence_forecasts(window)))
    scores |= {"persistence_mae": persistence.mae, "persistence_mape": persistence.mape}
    for name in scores.keys() & item.keys():
        found = np.nan if item[name] is None else item[name]
        assert found == pytest.approx(scores[name], rel=1e-12, nan_ok=True), name
    assert (item["forecasts"], item["live"]) == (len(window), 0)
    assert item["first_session"] == window["session"].min().date().isoformat()


@pytest.mark.parametrize("sessions", [1, 5, 20, 2520])
def test_scores_are_of_the_newest_sessions(
    client: httpx.Client, log: pd.DataFrame, sessions: int
) -> None:
    days = sorted(log["session"].unique())
    items = get_all(client, "/performance", sessions=sessions)
    assert [item["session"] for item in items] == [f"{day:%Y-%m-%d}" for day in reversed(days)]
    for item in items:
        until = [day for day in days if day <= pd.Timestamp(item["session"])]
        assert_scores(item, log[log["session"].isin(until[-sessions:])])


def test_default_window_is_twenty_sessions(client: httpx.Client) -> None:
    assert get(client, "/performance") == get(client, "/performance", sessions=20)


@pytest.mark.parametrize("ticker", ["IBM", ["AAPL", "GOOG"]])
def test_ticker_filter_selects_forecasts(
    client: httpx.Client, log: pd.DataFrame, ticker: str | list[str]
) -> None:
    own = log[log["ticker"].isin([ticker] if isinstance(ticker, str) else ticker)]
    newest = sorted(own["session"].unique())[-20:]
    page = get(client, "/performance", ticker=ticker, limit=1)
    assert_scores(page["items"][0], own[own["session"].isin(newest)])


def test_all_tickers_have_the_same_window(client: httpx.Client, log: pd.DataFrame) -> None:
    page = get(client, "/performance/tickers")
    assert page["end_session"] == REPLAYED[1].isoformat()
    assert [item["ticker"] for item in page["items"]] == sorted(log["ticker"].unique())
    newest = sorted(log["session"].unique())[-20:]
    for item in page["items"]:
        own = log[log["ticker"] == item["ticker"]]
        assert_scores(item, own[own["session"].isin(newest)])


def test_session_sets_the_end_of_the_windows(client: httpx.Client, log: pd.DataFrame) -> None:
    end = date(2013, 1, 15)
    page = get(client, "/performance/tickers", session=end.isoformat(), sessions=3)
    days = [day for day in sorted(log["session"].unique()) if day <= pd.Timestamp(end)][-3:]
    for item in page["items"]:
        own = log[(log["ticker"] == item["ticker"]) & log["session"].isin(days)]
        assert_scores(item, own)
    assert page["items"]


def test_no_scores_without_scored_forecasts(client: httpx.Client) -> None:
    assert get_all(client, "/performance", model_version=7) == []
    assert get_all(client, "/performance", horizon=7) == []
    assert get(client, "/performance/tickers", ticker="NONE")["end_session"] is None
    assert get_all(client, "/performance/tickers", session="2013-01-13") == []


def test_session_bounds_select_scores(client: httpx.Client) -> None:
    whole = get_all(client, "/performance")
    bounds = {"session_from": "2013-01-08", "session_to": "2013-01-15"}
    some = get_all(client, "/performance", **bounds)
    expected = [item for item in whole if "2013-01-08" <= item["session"] <= "2013-01-15"]
    assert [item["session"] for item in some] == [item["session"] for item in expected]
    assert [item["mae"] for item in some] == pytest.approx([item["mae"] for item in expected])


@pytest.mark.parametrize("sessions", ["0", "2521", "twenty"])
def test_invalid_window_is_rejected(client: httpx.Client, sessions: str) -> None:
    (invalid,) = get_problem(client, "/performance", 422, sessions=sessions)["errors"]
    assert invalid["where"] == "query.sessions"
