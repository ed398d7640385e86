"""The models page: versions, their scores, decisions and reasons."""

from __future__ import annotations

from stock_assets.evaluation.metrics import summarise
from stock_assets.reporting.decision_text import edge_text
from stock_assets.service.pages import formatting
from stock_assets.storage.forecasts import promotions, read_performance
from stock_assets_tests.conftest import REPLAYED, Loop
from stock_assets_tests.service.pages.conftest import Visit, table


def test_every_decision_is_shown_with_its_reason_in_full(read: Visit, loop: Loop) -> None:
    page = read("/models")
    decided = promotions(loop.store.engine)
    assert page.locator("article").count() == len(decided)
    for record in decided:
        card = page.locator(f"#decision-{record.candidate_version}").inner_text()
        assert record.reason in card
        assert edge_text(record.decision.edge, record.decision.against_persistence) in card
        assert record.mlflow_run_id[:8] in card
        assert record.dataset_run_id in card


def test_scores_stand_beside_those_of_persistence(read: Visit, loop: Loop) -> None:
    (first,) = [one for one in promotions(loop.store.engine) if one.candidate_version == 1]
    candidate, *_, persistence = table(read("/models"), "#decision-1")
    assert candidate[0] == "candidate, v1"
    assert persistence[0] == "persistence"
    for row, scores in ((candidate, first.candidate), (persistence, first.persistence)):
        assert row[4] == formatting.percent(scores["mape"])
        assert row[5] == formatting.number(scores["relative_mae"])


def test_a_version_is_scored_on_all_its_forecasts_that_came_due(read: Visit, loop: Loop) -> None:
    rows = table(read("/models"), "#versions-table")
    (version,) = [row for row in rows if row[0] == "Version 1"]
    scored = summarise(read_performance(loop.store.engine, *REPLAYED))
    assert version[4:8] == [
        formatting.count(scored.forecasts),
        formatting.percent(scored.mape),
        version[6],
        formatting.number(scored.relative_mae),
    ]
    assert [row[1] for row in rows].count("in production") == 1
