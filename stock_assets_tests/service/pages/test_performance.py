"""The performance page: scores, thresholds, persistence and decisions."""

from __future__ import annotations

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
from stock_assets.storage.decisions import promotions
from stock_assets.storage.forecasts import recent_performance
from stock_assets_tests.conftest import DATASET, Loop
from stock_assets_tests.service.pages.conftest import Read, figure, table, text
from stock_assets_tests.storage.examples import MODEL


def test_tiles_show_the_scores_of_monitoring(read: Read, loop: Loop) -> None:
    page = read("/performance")
    scored = summarise(recent_performance(loop.store.engine, 20, (DATASET, 1)))
    assert [tile.get_text() for tile in page.select(".tile .figure")] == [
        formatting.percent(scored.mape),
        formatting.number(scored.relative_mae),
        formatting.percent(scored.direction_accuracy, 1),
        formatting.percent(scored.coverage, 1),
    ]
    references = [tile.get_text() for tile in page.select(".tile .reference")]
    assert references[0].startswith("persistence ")
    assert formatting.percent(scored.base_rate_up, 1) in references[2]


def test_scores_say_how_their_forecasts_were_issued(read: Read) -> None:
    assert text(read("/performance"), ".lead .issued") == "all backfilled"


def test_edge_is_tested_as_in_promotions(read: Read, loop: Loop) -> None:
    rows = recent_performance(loop.store.engine, 20, (DATASET, 1))
    difference = loss_difference(rows, score_rows(persistence_forecasts(rows)))
    test = diebold_mariano(difference.to_numpy())
    edge = edge_over_persistence(test, summarise(rows).relative_mae, 0.05)
    assert text(read("/performance"), ".edge") == f"{edge_text(edge, test)}."


def test_table_shows_the_scores_of_each_ticker(read: Read, loop: Loop) -> None:
    rows = table(read("/performance"), "#by-ticker")
    scored = by_ticker(recent_performance(loop.store.engine, 20, (DATASET, 1)))
    assert [row[0] for row in rows] == list(scored["ticker"])
    for row, stored in zip(rows, scored.itertuples(), strict=True):
        assert row[1] == formatting.percent(stored.mape)
        assert row[3] == formatting.number(stored.relative_mae)
        assert row[4] == formatting.percent(stored.direction_accuracy, 1)
        assert row[5] == formatting.percent(stored.coverage, 1)


@pytest.mark.parametrize("key", ["mape", "coverage"])
def test_tickers_are_sorted_by_a_score(read: Read, key: str) -> None:
    place = ["ticker", "mape", "persistence_mape", "relative_mae", "direction", "coverage"].index(
        key
    )
    rows = table(read(f"/performance?sort={key}&order=desc"), "#by-ticker")
    values = [float(row[place].rstrip("%")) for row in rows]
    assert values == sorted(values, reverse=True)


def test_charts_show_rolling_scores_and_persistence(read: Read, loop: Loop) -> None:
    drawn = figure(read("/performance"), "mape")["data"]
    assert [line["name"] for line in drawn[:2]] == ["model", "persistence"]
    scored = summarise(recent_performance(loop.store.engine, 20, (DATASET, 1)))
    assert drawn[0]["y"][-2] == pytest.approx(scored.mape, abs=1e-6)  # the last one ends the line


def test_each_decision_is_listed_with_its_reason(read: Read, loop: Loop) -> None:
    events = text(read("/performance"), "section:has(#events)")
    for decided in promotions(loop.store.engine, MODEL):
        assert decided.reason in events
