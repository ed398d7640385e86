"""Which forecasts are given, and how."""

from __future__ import annotations

from datetime import date
from typing import Any

import httpx
import pytest

from stock_assets.market.calendar import next_session
from stock_assets_tests.conftest import REPLAYED, Loop
from stock_assets_tests.service.api.asking import ask, refuse, rows, walk

pytestmark = pytest.mark.slow


def key(item: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(item[name] for name in ("as_of_session", "ticker", "horizon", "model_version"))


@pytest.fixture
def everything(client: httpx.Client) -> list[dict[str, Any]]:
    """Every forecast."""
    return walk(client, "/forecasts", latest="false")


def test_by_default_the_newest_of_each_ticker_is_given(client: httpx.Client, loop: Loop) -> None:
    held = rows(
        loop.store.engine,
        "SELECT * FROM latest_predictions ORDER BY as_of_session DESC, ticker, horizon",
    )
    items = walk(client, "/forecasts")
    assert [item["ticker"] for item in items] == [row["ticker"] for row in held]
    assert {item["as_of_session"] for item in items} == {REPLAYED[1].isoformat()}
    assert [item["predicted_price"] for item in items] == [row["predicted_price"] for row in held]


def test_what_stood_at_the_end_of_a_session_is_given(
    client: httpx.Client, everything: list[dict[str, Any]]
) -> None:
    items = walk(client, "/forecasts", as_of_to="2013-01-13")  # a Sunday
    assert {item["as_of_session"] for item in items} == {"2013-01-11"}
    expected = [item for item in everything if item["as_of_session"] == "2013-01-11"]
    assert items == expected


@pytest.mark.parametrize(
    ("asked", "meets"),
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
def test_forecasts_can_be_chosen(
    client: httpx.Client, everything: list[dict[str, Any]], asked: dict[str, Any], meets: Any
) -> None:
    found = walk(client, "/forecasts", latest="false", **asked)
    assert found == [item for item in everything if meets(item)]


def test_a_target_is_as_many_sessions_ahead_as_its_horizon_says(
    everything: list[dict[str, Any]],
) -> None:
    for item in everything:
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
def test_a_wrong_parameter_is_named(client: httpx.Client, name: str, value: str) -> None:
    (wrong,) = refuse(client, "/forecasts", 422, **{name: value})["errors"]
    assert wrong["where"].startswith(f"query.{name}")


def test_a_page_goes_on_where_the_one_before_ended(
    client: httpx.Client, everything: list[dict[str, Any]]
) -> None:
    first = ask(client, "/forecasts", latest="false", limit=3)
    second = ask(client, "/forecasts", latest="false", limit=4, cursor=first["next"])
    assert [*first["items"], *second["items"]] == everything[:7]
    assert len({key(item) for item in everything}) == len(everything)
