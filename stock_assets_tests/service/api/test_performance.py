"""Scores of the loop: those of `summarise` over the stored log."""

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
from stock_assets_tests.service.api.asking import ask, refuse, walk

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def log(loop: Loop) -> pd.DataFrame:
    """The scored forecasts."""
    return read_performance(loop.store.engine, *REPLAYED)


def require_scores(told: dict[str, Any], window: pd.DataFrame) -> None:
    scores = asdict(summarise(window))
    persistence = summarise(score_rows(persistence_forecasts(window)))
    scores |= {"persistence_mae": persistence.mae, "persistence_mape": persistence.mape}
    for name in scores.keys() & told.keys():
        found = np.nan if told[name] is None else told[name]
        assert found == pytest.approx(scores[name], rel=1e-12, nan_ok=True), name
    assert told["first_session"] == window["session"].min().date().isoformat()


@pytest.mark.parametrize("sessions", [1, 5, 20, 2520])
def test_scores_are_those_of_the_newest_sessions(
    client: httpx.Client, log: pd.DataFrame, sessions: int
) -> None:
    days = sorted(log["session"].unique())
    items = walk(client, "/performance", sessions=sessions)
    assert [item["session"] for item in items] == [f"{day:%Y-%m-%d}" for day in reversed(days)]
    for item in items:
        until = [day for day in days if day <= pd.Timestamp(item["session"])]
        require_scores(item, log[log["session"].isin(until[-sessions:])])


def test_twenty_sessions_count_unless_others_are_asked_for(client: httpx.Client) -> None:
    assert ask(client, "/performance") == ask(client, "/performance", sessions=20)


@pytest.mark.parametrize("ticker", ["IBM", ["AAPL", "GOOG"]])
def test_the_scores_of_some_tickers_are_of_their_forecasts_alone(
    client: httpx.Client, log: pd.DataFrame, ticker: str | list[str]
) -> None:
    own = log[log["ticker"].isin([ticker] if isinstance(ticker, str) else ticker)]
    newest = sorted(own["session"].unique())[-20:]
    page = ask(client, "/performance", ticker=ticker, limit=1)
    require_scores(page["items"][0], own[own["session"].isin(newest)])


def test_every_ticker_is_scored_over_one_window(client: httpx.Client, log: pd.DataFrame) -> None:
    page = ask(client, "/performance/tickers")
    assert page["end_session"] == REPLAYED[1].isoformat()
    assert [item["ticker"] for item in page["items"]] == sorted(log["ticker"].unique())
    newest = sorted(log["session"].unique())[-20:]
    for item in page["items"]:
        own = log[log["ticker"] == item["ticker"]]
        require_scores(item, own[own["session"].isin(newest)])


def test_windows_can_end_earlier(client: httpx.Client, log: pd.DataFrame) -> None:
    end = date(2013, 1, 15)
    page = ask(client, "/performance/tickers", session=end.isoformat(), sessions=3)
    days = [day for day in sorted(log["session"].unique()) if day <= pd.Timestamp(end)][-3:]
    for item in page["items"]:
        own = log[(log["ticker"] == item["ticker"]) & log["session"].isin(days)]
        require_scores(item, own)
    assert page["items"]


def test_where_nothing_was_scored_there_is_nothing(client: httpx.Client) -> None:
    assert walk(client, "/performance", model_version=7) == []
    assert walk(client, "/performance", horizon=7) == []
    assert ask(client, "/performance/tickers", ticker="NONE")["end_session"] is None
    assert walk(client, "/performance/tickers", session="2013-01-13") == []


def test_sessions_of_scores_can_be_chosen(client: httpx.Client) -> None:
    whole = walk(client, "/performance")
    bounds = {"session_from": "2013-01-08", "session_to": "2013-01-15"}
    some = walk(client, "/performance", **bounds)
    expected = [item for item in whole if "2013-01-08" <= item["session"] <= "2013-01-15"]
    assert [item["session"] for item in some] == [item["session"] for item in expected]
    assert [item["mae"] for item in some] == pytest.approx([item["mae"] for item in expected])


@pytest.mark.parametrize("sessions", ["0", "2521", "twenty"])
def test_a_window_has_a_number_of_sessions(client: httpx.Client, sessions: str) -> None:
    (wrong,) = refuse(client, "/performance", 422, sessions=sessions)["errors"]
    assert wrong["where"] == "query.sessions"
