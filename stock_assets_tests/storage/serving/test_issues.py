"""Every issue of a forecast, page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine

from stock_assets.config import Rename
from stock_assets.evaluation.forecast_issues import Reason
from stock_assets.storage.forecast_issues import Issue
from stock_assets.storage.forecasts import predictions_as_of, save_predictions
from stock_assets.storage.record import head
from stock_assets.storage.renames import apply_renames
from stock_assets.storage.serving.forecast_issues import ISSUE_ORDER, find_issue, list_issues
from stock_assets_tests.storage.examples import DAYS, forecasts

FACTS = Issue(
    known_at=datetime(2026, 1, 2, tzinfo=UTC), params={"a": 1}, params_digest="d", device="cpu"
)


@pytest.fixture
def issued(engine: Engine) -> Engine:
    """A was forecast twice by version 1, once by version 2; B was withdrawn."""
    for price, tickers in ((1.0, "AB"), (2.0, "AB"), (2.0, "A")):
        made = forecasts(DAYS[:1], tickers, price=price)
        save_predictions(engine, made, DAYS[:1], 1, issue=FACTS)
    save_predictions(engine, forecasts(DAYS[:1], "A", version=2), DAYS[:1], 2)
    return engine


def prices(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(row["model_version"], row["predicted_price"]) for row in rows]


def test_issues_are_listed_by_version_the_oldest_first(issued: Engine) -> None:
    rows = list_issues(issued, DAYS[0], "A")
    assert prices(rows) == [(1, 1.0), (1, 2.0), (2, 101.5)]
    assert prices(list_issues(issued, DAYS[0], "A", model_version=1)) == prices(rows)[:2]
    assert list_issues(issued, DAYS[0], "A", horizon=2) == []
    assert list_issues(issued, DAYS[1], "A") == []
    newest = predictions_as_of(issued, DAYS[:1])
    assert pd.Timestamp(newest["predicted_at"][0]) == rows[2]["predicted_at"]


def test_an_issue_has_the_facts_that_are_known(issued: Engine) -> None:
    first, again, other = list_issues(issued, DAYS[0], "A")
    assert (first["reason"], again["reason"]) == (None, Reason.RERUN)
    assert first["known_at"] == FACTS.known_at
    assert (first["params_digest"], first["device"], first["torch"]) == ("d", "cpu", None)
    assert other["known_at"] is None
    found = find_issue(issued, first["issue"])
    assert found is not None
    assert found["params"] == FACTS.params
    assert find_issue(issued, 99) is None


def test_a_withdrawn_forecast_has_the_time_of_its_removal(issued: Engine) -> None:
    first, again = list_issues(issued, DAYS[0], "B")
    assert first["withdrawn_at"] is None
    assert again["withdrawn_at"] > again["predicted_at"]
    assert {row["withdrawn_at"] for row in list_issues(issued, DAYS[0], "A")} == {None}


def test_issues_follow_a_rename(issued: Engine) -> None:
    before = list_issues(issued, DAYS[0], "A")
    apply_renames(issued, [Rename(old="A", new="Z", first_session=DAYS[5])])
    assert list_issues(issued, DAYS[0], "Z") == [row | {"ticker": "Z"} for row in before]
    assert list_issues(issued, DAYS[0], "A") == []
    none = forecasts(DAYS[:1]).iloc[:0]
    save_predictions(issued, none, DAYS[:1], 1)
    newest = head(issued)
    assert newest is not None
    withdrawn = [row["withdrawn_at"] for row in list_issues(issued, DAYS[0], "Z")]
    assert withdrawn == [None, newest.written_at, None]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_pages_have_each_issue_once(issued: Engine, size: int) -> None:
    whole = list_issues(issued, DAYS[0], "A")
    walked: list[dict[str, Any]] = []
    while page := list_issues(
        *(issued, DAYS[0], "A"),
        size=size,
        after=tuple(walked[-1][name] for name in ISSUE_ORDER) if walked else None,
    ):
        walked += page
    assert walked == whole
