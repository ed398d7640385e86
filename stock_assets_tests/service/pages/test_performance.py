"""The performance page: scores beside thresholds and persistence."""

from __future__ import annotations

import json

import pytest

from stock_assets.evaluation.metrics import (
    by_ticker,
    persistence_forecasts,
    score_rows,
    summarise,
)
from stock_assets.evaluation.significance import (
    diebold_mariano,
    edge_over_persistence,
    loss_difference,
)
from stock_assets.reporting.decision_text import edge_text
from stock_assets.service.pages import formatting
from stock_assets.storage.forecasts import promotions, recent_performance
from stock_assets_tests.conftest import Loop
from stock_assets_tests.service.pages.conftest import Visit, table


def test_the_figures_are_those_that_monitoring_decides_by(read: Visit, loop: Loop) -> None:
    page = read("/performance")
    scored = summarise(recent_performance(loop.store.engine, 20, 1))
    assert page.locator(".tile .figure").all_inner_texts() == [
        formatting.percent(scored.mape),
        formatting.number(scored.relative_mae),
        formatting.percent(scored.direction_accuracy, 1),
        formatting.percent(scored.coverage, 1),
    ]
    besides = page.locator(".tile .beside").all_inner_texts()
    assert besides[0].startswith("persistence ")
    assert besides[2] == f"always up: {formatting.percent(scored.base_rate_up, 1)}"


def test_an_edge_is_claimed_in_the_words_and_by_the_test_of_promotions(
    read: Visit, loop: Loop
) -> None:
    rows = recent_performance(loop.store.engine, 20, 1)
    difference = loss_difference(rows, score_rows(persistence_forecasts(rows)))
    test = diebold_mariano(difference.to_numpy())
    edge = edge_over_persistence(test, summarise(rows).relative_mae, 0.05)
    shown = read("/performance").locator(".verdict").inner_text()
    assert shown == f"{edge_text(edge, test)}."


def test_each_ticker_has_the_scores_of_its_forecasts(read: Visit, loop: Loop) -> None:
    rows = table(read("/performance"), "#by-ticker")
    scored = by_ticker(recent_performance(loop.store.engine, 20, 1))
    assert [row[0] for row in rows] == list(scored["ticker"])
    for row, stored in zip(rows, scored.itertuples(), strict=True):
        assert row[1] == formatting.percent(stored.mape)
        assert row[3] == formatting.number(stored.relative_mae)
        assert row[4] == formatting.percent(stored.direction_accuracy, 1)
        assert row[5] == formatting.percent(stored.coverage, 1)


@pytest.mark.parametrize("key", ["mape", "persistence_mape", "relative_mae", "coverage"])
def test_tickers_are_ordered_by_any_score(read: Visit, key: str) -> None:
    place = ["ticker", "mape", "persistence_mape", "relative_mae", "direction", "coverage"].index(
        key
    )
    rows = table(read(f"/performance?sort={key}&order=desc"), "#by-ticker")
    values = [float(row[place].rstrip("%")) for row in rows]
    assert values == sorted(values, reverse=True)


def test_rolling_scores_are_drawn_beside_persistence(visit: Visit, loop: Loop) -> None:
    page = visit("/performance")
    drawn = json.loads(str(page.locator("#mape-data").text_content()))["data"]
    assert [line["name"] for line in drawn[:2]] == ["model", "persistence"]
    scored = summarise(recent_performance(loop.store.engine, 20, 1))
    assert drawn[0]["y"][-2] == pytest.approx(scored.mape, abs=1e-6)  # the last one ends the line
    assert page.locator(".plot svg.main-svg").count() >= 4


def test_decisions_are_told_in_full(read: Visit, loop: Loop) -> None:
    told = read("/performance").locator("section:has(#events)").inner_text()
    for decided in promotions(loop.store.engine):
        assert decided.reason in told
