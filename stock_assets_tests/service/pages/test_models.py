"""The models page: versions, scores and decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bs4 import BeautifulSoup
from sqlalchemy import Engine

from stock_assets.evaluation.metrics import summarise
from stock_assets.reporting.decision_text import edge_text
from stock_assets.service.api.decisions import as_promotion
from stock_assets.service.pages import formatting
from stock_assets.service.pages.models import models
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import promotions, save_promotion
from stock_assets.storage.forecasts import read_performance
from stock_assets.storage.serving.decisions import list_promotions
from stock_assets_tests.conftest import REPLAYED, Loop
from stock_assets_tests.service.conftest import state_for
from stock_assets_tests.service.pages.conftest import Read, parse, table, text
from stock_assets_tests.storage.examples import DATASET, MODEL, PROMOTION, panel


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
    rows = table(read("/models"), "#scores-1")
    assert [row[0] for row in rows] == list(expected)
    for row, scores in zip(rows, expected.values(), strict=True):
        assert row[4] == formatting.percent(scores["mape"])
        assert row[5] == formatting.number(scores["relative_mae"])


def interval_scores(model: str, **others: Any) -> dict[str, Any]:
    """Return what a decision stores of the intervals of a model."""
    return {
        "model": model,
        "nominal": 0.9,
        "coverage": 0.875,
        "interval_score": 0.0712,
        "width": 0.053,
        "block_coverage_p05": None,
        "block_coverage_p95": None,
        "difference": 0.0,
        "p_value": None,
        "tickers": {"IBM": 0.8, "FB": 0.8, "AAPL": 0.95, "GOOG": 0.95},
    } | others


def page_of_decision(engine: Engine, **scores: Any) -> BeautifulSoup:
    save_panel(engine, panel(DATASET))
    persistence = PROMOTION.persistence | scores
    save_promotion(engine, replace(PROMOTION, production_version=2, persistence=persistence))
    return parse(models(state_for(engine)))


def test_decision_shows_the_scores_of_intervals(engine: Engine) -> None:
    rival = {"p_value": 0.0123, "block_coverage_p05": 0.811, "interval_score": 0.08}
    page = page_of_decision(
        engine,
        intervals=[
            interval_scores("candidate"),
            interval_scores("constant_width", **rival),
            interval_scores("no_change"),
            interval_scores("production"),
        ],
    )
    rows = table(page, "#intervals-1")
    coverage = ["5.30%", "87.5%", "80.0%FB", "95.0%GOOG"]
    assert rows[:2] == [
        ["candidate, v1", "90%", "7.12%", "–", *coverage, "–"],
        ["candidate, constant width", "90%", "8.00%", "0.012", *coverage, "81.1%"],
    ]
    assert [row[0] for row in rows[2:]] == ["persistence, same scale", "production, v2"]


def test_the_candidate_without_shrinkage_is_no_baseline(engine: Engine) -> None:
    raw = dict(PROMOTION.candidate) | {"relative_mae": 1.5}
    page = page_of_decision(engine, baselines={"ridge": PROMOTION.candidate, "candidate_raw": raw})
    rows = table(page, "#scores-1")
    assert [row[0] for row in rows if row[5] == "1.500"] == ["candidate without shrinkage"]
    assert [row[0] for row in rows][1] == "candidate without shrinkage"
    (found,) = map(as_promotion, list_promotions(engine, None, None, 9))
    assert set(found["baselines"]) == {"ridge"}
    assert found["candidate_raw"] == raw


def test_decision_of_an_earlier_version_shows_no_intervals(engine: Engine) -> None:
    page = page_of_decision(engine)
    assert text(page, "#decision-1")
    assert page.select_one("#intervals-1") is None


def test_stored_intervals_are_on_the_page(read: Read, loop: Loop) -> None:
    (first,) = [one for one in promotions(loop.store.engine, MODEL) if one.candidate_version == 1]
    rows = table(read("/models"), "#intervals-1")
    stored = first.persistence["intervals"]
    assert [row[2] for row in rows] == [formatting.percent(one["interval_score"]) for one in stored]
    assert [row[1] for row in rows] == [*["90%"] * 3, *["80%"] * 3, *["50%"] * 3]


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
