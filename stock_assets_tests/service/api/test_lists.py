"""Lists: items equal the rows of the tables, and pages hold each item once."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from stock_assets.service.app import create_app
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import save_promotion
from stock_assets_tests.conftest import DATASET, SECOND_DATASET, Loop
from stock_assets_tests.service.api.client import assert_row, get, get_all, get_problem, select
from stock_assets_tests.service.conftest import send, state_for
from stock_assets_tests.storage.examples import PROMOTION, panel

pytestmark = pytest.mark.usefixtures("second_retraining")

TABLES = {
    "/forecasts": "SELECT * FROM predictions "
    "ORDER BY as_of_session DESC, ticker, horizon, model_version",
    "/promotions": "SELECT *, (persistence -> 'baselines') - 'candidate_raw' AS baselines, "
    "persistence -> 'baselines' -> 'candidate_raw' AS candidate_raw, "
    "persistence -> 'intervals' AS intervals, "
    "persistence - 'baselines' - 'intervals' AS persistence, decision->>'outcome' AS outcome, "
    "decision->>'edge' AS edge, (decision->'detection') - 'source' - 'sessions' AS detection "
    "FROM model_promotions "
    "ORDER BY decided_at DESC, candidate_version DESC",
    "/retrainings": "SELECT *, decision->>'outcome' AS outcome, decision->'metrics' AS metrics, "
    "CAST(decision->>'backfilled' AS int) AS backfilled, "
    "CAST(decision->>'model_version' AS int) AS model_version "
    "FROM retraining_decisions ORDER BY session DESC",
    "/datasets": "SELECT *, jsonb_array_length(tickers) AS tickers, "
    "jsonb_array_length(features) AS features FROM processed_feature_data "
    "ORDER BY dataset_run_id DESC",
    "/checks": "SELECT * FROM check_results "
    "ORDER BY checked_at DESC, dagster_run_id, asset, check_name",
    "/drift": "SELECT * FROM feature_drift ORDER BY as_of_session DESC, model_version, feature",
    "/production": "SELECT * FROM production_history ORDER BY id DESC",
    "/models": "SELECT *, candidate_version AS model_version FROM model_promotions "
    "ORDER BY candidate_version DESC",
}
COMPUTED = {
    "/production": ("in_force_until", "in_production"),
    "/models": ("refit_of", "newest_label", "in_production", "first_forecast", "last_forecast"),
    "/promotions": ("reason", "in_shadow", "before_alarm", "shadow"),
    "/retrainings": (
        *("reason", "breaches", "alarm", "evidence_from", "invalid_forecasts", "age_sessions"),
    ),
}
LISTS = (
    *(*TABLES, "/tickers", "/prices/IBM", "/performance", "/performance/tickers"),
    "/forecasts/2013-01-15/IBM/issues",
)


@pytest.fixture
def engine_of_the_loop(loop: Loop) -> Engine:
    """The database of the running service."""
    return loop.store.engine


def all_rows(path: str) -> dict[str, str]:
    return {"latest": "false"} if path == "/forecasts" else {}


@pytest.mark.parametrize("path", TABLES)
def test_items_equal_the_rows_of_the_table(
    client: httpx.Client, engine_of_the_loop: Engine, path: str
) -> None:
    items = get_all(client, path, limit=1000, **all_rows(path))
    stored = select(engine_of_the_loop, TABLES[path])
    assert items or path == "/retrainings"
    for item, row in zip(items, stored, strict=True):
        assert_row(item, row, *COMPUTED.get(path, ()))


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", [2, 100])
def test_pages_hold_each_item_once_in_order(client: httpx.Client, path: str, limit: int) -> None:
    few = {"session_from": "2013-02-01"} if path == "/prices/IBM" else all_rows(path)
    assert get_all(client, path, limit=limit, **few) == get_all(client, path, limit=1000, **few)


@pytest.mark.parametrize("path", LISTS)
def test_default_page_size_is_a_hundred(client: httpx.Client, path: str) -> None:
    page = get(client, path)
    assert len(page["items"]) <= 100
    assert (page["next"] is None) == (len(get_all(client, path, limit=1000)) <= 100)


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("cursor", ["AAAA", "W10=", "W251bGxd"])
def test_invalid_cursor_is_not_found(client: httpx.Client, path: str, cursor: str) -> None:
    assert "cursor" in get_problem(client, path, 404, cursor=cursor)["detail"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["0", "1001", "1.0", "1_0", " 5"])
def test_invalid_limit_is_rejected(client: httpx.Client, path: str, limit: str) -> None:
    (invalid,) = get_problem(client, path, 422, limit=limit)["errors"]
    assert invalid["where"] == "query.limit"


def test_decision_of_an_earlier_version_has_no_intervals(engine: Engine) -> None:
    save_panel(engine, panel(PROMOTION.dataset_run_id))
    save_promotion(engine, PROMOTION)
    (item,) = send(create_app(state_for(engine)), "/api/v1/promotions").json()["items"]
    assert item["intervals"] == []
    assert item["persistence"] == PROMOTION.persistence


def test_tickers_are_the_universe_and_all_stored_ones(
    client: httpx.Client, engine_of_the_loop: Engine, loop: Loop
) -> None:
    stored = select(
        engine_of_the_loop,
        "SELECT ticker, currency, i.source, min(session) AS first_session, "
        "max(session) AS last_session, (array_agg(close ORDER BY session DESC))[1] AS last_close "
        "FROM instruments i JOIN raw_stock_data USING (ticker) GROUP BY 1, 2, 3 ORDER BY 1",
    )
    items = get_all(client, "/tickers")
    universe = loop.platform.params.prices.tickers
    for item, row in zip(items, stored, strict=True):
        assert_row(item, row, "in_universe")
        assert item["in_universe"] == (item["ticker"] in universe)


def test_version_in_production_is_that_of_the_history(
    client: httpx.Client, engine_of_the_loop: Engine
) -> None:
    items = get_all(client, "/models")
    assert [item["model_version"] for item in items] == [2, 1]
    (last,) = select(
        engine_of_the_loop,
        "SELECT model_version FROM production_history WHERE until_session IS NULL "
        "ORDER BY id DESC LIMIT 1",
    )
    current = [item["model_version"] for item in items if item["in_production"]]
    assert current == [last["model_version"]]
    (span,) = select(
        engine_of_the_loop,
        "SELECT min(as_of_session) AS first_forecast, max(as_of_session) AS last_forecast "
        "FROM predictions WHERE model_version = 1",
    )
    first = items[1]
    assert_row({name: first[name] for name in span}, span)


@pytest.mark.parametrize("path", ["/models", "/promotions"])
def test_filters_select_versions_and_decisions(client: httpx.Client, path: str) -> None:
    all_items = get_all(client, path)
    for dataset in (DATASET, SECOND_DATASET):
        expected = [item for item in all_items if item["dataset_run_id"] == dataset]
        assert get_all(client, path, dataset_run_id=dataset) == expected
    for promoted in ("true", "false"):
        expected = [item for item in all_items if item["promoted"] == (promoted == "true")]
        assert get_all(client, path, promoted=promoted) == expected
    assert get_all(client, path, dataset_run_id="19990101_000000") == []


def test_filters_select_checks_of_each_asset(client: httpx.Client) -> None:
    all_items = get_all(client, "/checks")
    assets = {item["asset"] for item in all_items}
    assert "scalers" in assets
    for asset in assets:
        expected = [item for item in all_items if item["asset"] == asset]
        assert get_all(client, "/checks", asset=asset) == expected


def test_filters_select_drift(client: httpx.Client) -> None:
    all_items = get_all(client, "/drift")
    bounds = {"as_of_from": "2013-01-02", "as_of_to": "2013-01-04"}
    days = {"2013-01-02", "2013-01-03", "2013-01-04"}
    expected = [item for item in all_items if item["as_of_session"] in days]
    assert expected
    assert get_all(client, "/drift", model_version=1, **bounds) == expected
    assert get_all(client, "/drift", model_version=7) == []


def test_cursor_with_an_invalid_feature_is_not_found(client: httpx.Client) -> None:
    position = urlsafe_b64encode(b'["2013-01-31", 1, "\\u0000"]').decode()
    assert "cursor" in get_problem(client, "/drift", 404, cursor=position)["detail"]


def test_as_of_bounds_select_datasets(client: httpx.Client) -> None:
    def found(**bounds: str) -> list[Any]:
        return [item["dataset_run_id"] for item in get_all(client, "/datasets", **bounds)]

    assert found() == [SECOND_DATASET, DATASET]
    assert found(as_of_to="2012-12-31") == [DATASET]
    assert found(as_of_from="2013-01-01") == [SECOND_DATASET]
    assert found(as_of_from="2013-01-01", as_of_to="2012-12-31") == []
