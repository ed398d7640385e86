"""Forecasts: filters and pages."""

from __future__ import annotations

from datetime import date
from typing import Any

import httpx
import pytest

from stock_assets.market.calendar import next_session
from stock_assets_tests.conftest import REPLAYED, Loop
from stock_assets_tests.service.api.client import get, get_all, get_problem, select


def key(item: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(item[name] for name in ("as_of_session", "ticker", "horizon", "model_version"))


@pytest.fixture
def all_forecasts(client: httpx.Client) -> list[dict[str, Any]]:
    """Every forecast."""
    return get_all(client, "/forecasts", latest="false")


def test_default_is_the_newest_forecast_of_each_ticker(client: httpx.Client, loop: Loop) -> None:
    stored = select(
        loop.store.engine,
        "SELECT * FROM latest_predictions ORDER BY as_of_session DESC, ticker, horizon",
    )
    items = get_all(client, "/forecasts")
    assert [item["ticker"] for item in items] == [row["ticker"] for row in stored]
    assert {item["as_of_session"] for item in items} == {REPLAYED[1].isoformat()}
    assert [item["predicted_price"] for item in items] == [row["predicted_price"] for row in stored]


def test_latest_as_of_a_session(client: httpx.Client, all_forecasts: list[dict[str, Any]]) -> None:
    items = get_all(client, "/forecasts", as_of_to="2013-01-13")  # a Sunday
    assert {item["as_of_session"] for item in items} == {"2013-01-11"}
    expected = [item for item in all_forecasts if item["as_of_session"] == "2013-01-11"]
    assert items == expected


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({"ticker": "IBM"}, lambda item: item["ticker"] == "IBM"),
        ({"ticker": ["IBM", "AAPL"]}, lambda item: item["ticker"] in ("IBM", "AAPL")),
        ({"ticker": "NONE"}, lambda item: False),
        ({"horizon": 1}, lambda item: True),
        ({"horizon": 2}, lambda item: False),
        ({"model_version": 1}, lambda item: item["model_version"] == 1),
        ({"model_version": 7}, lambda item: False),
        ({"as_of_from": "2013-01-15"}, lambda item: item["as_of_session"] >= "2013-01-15"),
        ({"as_of_to": "2013-01-15"}, lambda item: item["as_of_session"] <= "2013-01-15"),
        ({"target_from": "2013-01-15"}, lambda item: item["target_session"] >= "2013-01-15"),
        ({"target_to": "2013-01-15"}, lambda item: item["target_session"] <= "2013-01-15"),
        (
            {"ticker": "FB", "as_of_from": "2013-01-08", "target_to": "2013-01-10"},
            lambda item: (
                item["ticker"] == "FB"
                and item["as_of_session"] >= "2013-01-08"
                and item["target_session"] <= "2013-01-10"
            ),
        ),
    ],
)
def test_filters_select_forecasts(
    client: httpx.Client, all_forecasts: list[dict[str, Any]], query: dict[str, Any], matches: Any
) -> None:
    found = get_all(client, "/forecasts", latest="false", **query)
    assert found == [item for item in all_forecasts if matches(item)]


def test_target_is_horizon_sessions_after_as_of(
    all_forecasts: list[dict[str, Any]],
) -> None:
    for item in all_forecasts:
        as_of = date.fromisoformat(item["as_of_session"])
        assert item["target_session"] == next_session(as_of, item["horizon"]).isoformat()
        assert item["lower_price"] <= item["predicted_price"] <= item["upper_price"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("as_of_from", "yesterday"),
        ("as_of_from", "2013-02-30"),
        ("as_of_to", "1357000000"),
        ("target_from", "2013-01-01T00:00:00"),
        ("target_to", "20130101"),
        ("horizon", "0"),
        ("horizon", "2147483648"),
        ("model_version", "one"),
        ("latest", "1"),
        ("latest", "yes"),
        ("ticker", "aapl"),
        ("ticker", "A" * 33),
        ("tickers", "AAPL"),
    ],
)
def test_invalid_parameter_is_named(client: httpx.Client, name: str, value: str) -> None:
    (invalid,) = get_problem(client, "/forecasts", 422, **{name: value})["errors"]
    assert invalid["where"].startswith(f"query.{name}")


def test_next_page_starts_after_the_previous_one(
    client: httpx.Client, all_forecasts: list[dict[str, Any]]
) -> None:
    first = get(client, "/forecasts", latest="false", limit=3)
    second = get(client, "/forecasts", latest="false", limit=4, cursor=first["next"])
    assert [*first["items"], *second["items"]] == all_forecasts[:7]
    assert len({key(item) for item in all_forecasts}) == len(all_forecasts)
