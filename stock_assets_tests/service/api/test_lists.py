"""Every list: what it tells is what the tables hold, walked once and in order."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from stock_assets_tests.conftest import DATASET, SECOND_DATASET, Loop
from stock_assets_tests.service.api.asking import API, ask, refuse, require_row, rows, walk

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("second_retraining")]

TABLES = {
    "/forecasts": "SELECT * FROM predictions "
    "ORDER BY as_of_session DESC, ticker, horizon, model_version",
    "/promotions": "SELECT *, persistence -> 'baselines' AS baselines, "
    "persistence - 'baselines' AS persistence, decision->>'outcome' AS outcome, "
    "decision->>'edge' AS edge FROM model_promotions "
    "ORDER BY decided_at DESC, candidate_version DESC",
    "/retrainings": "SELECT *, decision->>'outcome' AS outcome, decision->'metrics' AS metrics "
    "FROM retraining_decisions ORDER BY session DESC",
    "/datasets": "SELECT *, jsonb_array_length(tickers) AS tickers, "
    "jsonb_array_length(features) AS features FROM processed_feature_data "
    "ORDER BY dataset_run_id DESC",
    "/checks": "SELECT * FROM check_results "
    "ORDER BY checked_at DESC, dagster_run_id, asset, check_name",
    "/drift": "SELECT * FROM feature_drift ORDER BY as_of_session DESC, model_version, feature",
    "/models": "SELECT *, candidate_version AS model_version FROM model_promotions "
    "ORDER BY candidate_version DESC",
}
BESIDE = {
    "/models": ("refit_of", "in_production", "first_forecast", "last_forecast"),
    "/promotions": ("reason",),
    "/retrainings": ("reason", "breaches"),
}
LISTS = (*TABLES, "/tickers", "/prices/IBM", "/performance", "/performance/tickers")


@pytest.fixture
def engine_of_the_loop(loop: Loop) -> Engine:
    """The tables that the running service reads."""
    return loop.store.engine


def whole(path: str) -> dict[str, str]:
    return {"latest": "false"} if path == "/forecasts" else {}


@pytest.mark.parametrize("path", TABLES)
def test_a_list_tells_what_its_table_holds(
    client: httpx.Client, engine_of_the_loop: Engine, path: str
) -> None:
    items = walk(client, path, limit=1000, **whole(path))
    held = rows(engine_of_the_loop, TABLES[path])
    assert items or path == "/retrainings"
    for item, row in zip(items, held, strict=True):
        require_row(item, row, *BESIDE.get(path, ()))


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_hold_everything_once_and_in_order(
    client: httpx.Client, path: str, limit: int
) -> None:
    if limit == 1 and path == "/prices/IBM":
        limit = 3
    few = {"session_from": "2012-12-01"} if path == "/prices/IBM" else whole(path)
    assert walk(client, path, limit=limit, **few) == walk(client, path, limit=1000, **few)


@pytest.mark.parametrize("path", LISTS)
def test_the_first_page_has_a_hundred_items_at_most(client: httpx.Client, path: str) -> None:
    page = ask(client, path)
    assert len(page["items"]) <= 100
    assert (page["next"] is None) == (len(walk(client, path)) <= 100)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("cursor", ["AAAA", "W10=", "WyJhIl0=", "W251bGxd", "eyJhIjoxfQ=="])
def test_a_cursor_of_no_page_leads_nowhere(client: httpx.Client, path: str, cursor: str) -> None:
    assert "cursor" in refuse(client, path, 404, cursor=cursor)["detail"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.0", "ten", "", "1_0", " 5"])
def test_a_limit_is_a_number_of_items(client: httpx.Client, path: str, limit: str) -> None:
    (wrong,) = refuse(client, path, 422, limit=limit)["errors"]
    assert wrong["where"] == "query.limit"


@pytest.mark.parametrize("path", LISTS)
def test_an_answer_that_the_client_has_is_not_sent_again(client: httpx.Client, path: str) -> None:
    first = client.get(f"{API}{path}")
    again = client.get(f"{API}{path}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(f"{API}{path}", params={"limit": 1})
    assert other.headers["etag"] != first.headers["etag"] or other.content == first.content


@pytest.mark.parametrize("path", LISTS)
def test_the_shipped_example_of_a_cursor_is_of_its_form(client: httpx.Client, path: str) -> None:
    page = ask(client, path, limit=1)
    if page["next"] is not None:
        assert set(page["next"]) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
        )


def test_tickers_are_the_universe_and_all_that_is_stored(
    client: httpx.Client, engine_of_the_loop: Engine, loop: Loop
) -> None:
    held = rows(
        engine_of_the_loop,
        "SELECT ticker, currency, i.source, min(session) AS first_session, "
        "max(session) AS last_session, (array_agg(close ORDER BY session DESC))[1] AS last_close "
        "FROM instruments i JOIN raw_stock_data USING (ticker) GROUP BY 1, 2, 3 ORDER BY 1",
    )
    items = walk(client, "/tickers")
    universe = loop.platform.params.prices.tickers
    for item, row in zip(items, held, strict=True):
        require_row(item, row, "in_universe")
        assert item["in_universe"] == (item["ticker"] in universe)


def test_models_are_versions_and_the_last_promoted_is_in_production(
    client: httpx.Client, engine_of_the_loop: Engine
) -> None:
    items = walk(client, "/models")
    assert [item["model_version"] for item in items] == [2, 1]
    (last,) = rows(
        engine_of_the_loop,
        "SELECT candidate_version FROM model_promotions WHERE promoted "
        "ORDER BY as_of_session DESC LIMIT 1",
    )
    standing = [item["model_version"] for item in items if item["in_production"]]
    assert standing == [last["candidate_version"]]
    (span,) = rows(
        engine_of_the_loop,
        "SELECT min(as_of_session) AS first_forecast, max(as_of_session) AS last_forecast "
        "FROM predictions WHERE model_version = 1",
    )
    first = items[1]
    require_row({name: first[name] for name in span}, span)


@pytest.mark.parametrize("path", ["/models", "/promotions"])
def test_versions_and_decisions_can_be_chosen(client: httpx.Client, path: str) -> None:
    everything = walk(client, path)
    for dataset in (DATASET, SECOND_DATASET):
        expected = [item for item in everything if item["dataset_run_id"] == dataset]
        assert walk(client, path, dataset_run_id=dataset) == expected
    for promoted in ("true", "false"):
        expected = [item for item in everything if item["promoted"] == (promoted == "true")]
        assert walk(client, path, promoted=promoted) == expected
    assert walk(client, path, dataset_run_id="19990101_000000") == []


def test_drift_can_be_chosen_by_version_and_as_of_session(client: httpx.Client) -> None:
    everything = walk(client, "/drift")
    bounds = {"as_of_from": "2013-01-02", "as_of_to": "2013-01-04"}
    days = {"2013-01-02", "2013-01-03", "2013-01-04"}
    expected = [item for item in everything if item["as_of_session"] in days]
    assert expected
    assert walk(client, "/drift", model_version=1, **bounds) == expected
    assert walk(client, "/drift", model_version=7) == []


def test_a_cursor_that_names_no_feature_leads_nowhere(client: httpx.Client) -> None:
    position = urlsafe_b64encode(b'["2013-01-31", 1, "\\u0000"]').decode()
    assert "cursor" in refuse(client, "/drift", 404, cursor=position)["detail"]


def test_datasets_can_be_chosen_by_their_as_of_session(client: httpx.Client) -> None:
    def found(**bounds: str) -> list[Any]:
        return [item["dataset_run_id"] for item in walk(client, "/datasets", **bounds)]

    assert found() == [SECOND_DATASET, DATASET]
    assert found(as_of_to="2012-12-31") == [DATASET]
    assert found(as_of_from="2013-01-01") == [SECOND_DATASET]
    assert found(as_of_from="2013-01-01", as_of_to="2012-12-31") == []
