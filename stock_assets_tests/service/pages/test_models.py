"""The models page: versions, scores and decisions."""

from __future__ import annotations

from stock_assets.evaluation.metrics import summarise
from stock_assets.reporting.decision_text import edge_text
from stock_assets.service.pages import formatting
from stock_assets.storage.decisions import promotions
from stock_assets.storage.forecasts import read_performance
from stock_assets_tests.conftest import REPLAYED, Loop
from stock_assets_tests.service.pages.conftest import Read, table, text
from stock_assets_tests.storage.examples import MODEL


def test_each_decision_is_shown_with_its_reason(read: Read, loop: Loop) -> None:
    page = read("/models")
    decided = promotions(loop.store.engine, MODEL)
    assert len(page.select("article")) == len(decided)
    for record in decided:
        card = text(page, f"#decision-{record.candidate_version}")
        assert record.reason in card
        assert edge_text(record.decision.edge, record.decision.against_persistence) in card
        assert record.mlflow_run_id[:8] in card
        assert record.dataset_run_id in card


def test_decision_shows_the_scores_of_candidate_and_baselines(read: Read, loop: Loop) -> None:
    (first,) = [one for one in promotions(loop.store.engine, MODEL) if one.candidate_version == 1]
    baselines = first.persistence["baselines"]
    expected = {
        "candidate, v1": first.candidate,
        "persistence": first.persistence,
        **{name.replace("_", " "): scores for name, scores in baselines.items()},
    }
    assert {"reversal", "ridge", "gradient boosting"} < set(expected)
    rows = table(read("/models"), "#decision-1")
    assert [row[0] for row in rows] == list(expected)
    for row, scores in zip(rows, expected.values(), strict=True):
        assert row[4] == formatting.percent(scores["mape"])
        assert row[5] == formatting.number(scores["relative_mae"])


def test_version_shows_its_newest_label(read: Read) -> None:
    (version,) = [
        row for row in table(read("/models"), "#versions-table") if row[0].startswith("Version 1")
    ]
    assert "2012-08-01" < version[4] < version[3] == "2012-12-31"


def test_version_shows_the_scores_of_all_its_forecasts(read: Read, loop: Loop) -> None:
    rows = table(read("/models"), "#versions-table")
    (version,) = [row for row in rows if row[0].startswith("Version 1")]
    scored = summarise(read_performance(loop.store.engine, *REPLAYED))
    assert version[5:9] == [
        formatting.count(scored.forecasts),
        formatting.percent(scored.mape),
        version[7],
        formatting.number(scored.relative_mae),
    ]
    assert [row[1] for row in rows].count("in production") == 1
