"""Promotion: decided once per candidate on the test segment, and recorded with its figures."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from stock_assets.evaluation.promotion_rule import PromotionOutcome
from stock_assets.evaluation.significance import Edge
from stock_assets.registry import Registry
from stock_assets.storage.datasets import load_segments
from stock_assets_tests.conftest import AS_OF, DATASET, Loop
from stock_assets_tests.defs.promotion.decided import record_of, timeline


def test_the_first_model_is_promoted(loop: Loop, registry: Registry) -> None:
    record = record_of(loop, DATASET)
    assert record.promoted
    assert record.production_version is None
    assert record.production is None
    assert record.decision.outcome is PromotionOutcome.FIRST_MODEL
    assert record.candidate_version == registry.candidate(DATASET).version


def test_the_decision_is_about_the_test_segment(loop: Loop) -> None:
    record, test = (
        record_of(loop, DATASET),
        load_segments(loop.platform.engine, DATASET)["test"],
    )
    assert (record.first_session, record.last_session) == (test.first_session, test.last_session)
    assert record.candidate["sessions"] == loop.platform.params.dataset.test_sessions
    assert record.candidate["forecasts"] == record.persistence["forecasts"] == 5 * 30
    assert record.persistence["relative_mae"] == 1.0
    assert record.persistence["coverage"] is None
    assert record.last_session < AS_OF


def test_a_change_of_production_is_an_event_with_its_lineage(
    loop: Loop, registry: Registry
) -> None:
    first, record = timeline(loop)[-1], record_of(loop, DATASET)
    assert first["model_version"] == record.candidate_version
    assert first["dataset_run_id"] == DATASET
    assert first["as_of_session"] == AS_OF.isoformat()
    assert first["mlflow_run_id"] == record.mlflow_run_id
    assert first["digest"] == registry.version(record.candidate_version).digest
    assert first["cause"] == "promotion"
    assert "replaces_version" not in first


def test_the_second_candidate_meets_production_on_the_same_sessions(
    loop: Loop, registry: Registry, second_retraining: str
) -> None:
    first, record = record_of(loop, DATASET), record_of(loop, second_retraining)
    assert record.production_version == first.candidate_version
    assert record.production is not None
    for name in ("forecasts", "sessions"):
        assert record.candidate[name] == record.production[name] == record.persistence[name]
    better = record.candidate["relative_mae"] < record.production["relative_mae"]
    assert record.promoted is better
    outcome = PromotionOutcome.BETTER if better else PromotionOutcome.NOT_BETTER
    assert record.decision.outcome is outcome
    standing = registry.production()
    assert standing is not None
    assert standing.version == (record.candidate_version if better else first.candidate_version)
    assert len(timeline(loop)) == 1 + better


def test_baselines_are_scored_on_the_same_forecasts(loop: Loop) -> None:
    record = record_of(loop, DATASET)
    others = record.persistence["baselines"]
    assert set(others) == {"reversal", "ridge", "gradient_boosting"}
    for scores in others.values():
        for name in ("forecasts", "sessions"):
            assert scores[name] == record.candidate[name]
        assert scores["relative_mae"] > 0.9
        assert 0 <= scores["p_persistence"] <= 1


def test_intervals_are_compared_on_the_same_forecasts(loop: Loop, registry: Registry) -> None:
    record = record_of(loop, DATASET)
    stored, coverages = record.persistence["intervals"], loop.platform.params.forecast.coverages
    assert [(one["nominal"], one["model"]) for one in stored] == [
        (coverage, model)
        for coverage in reversed(coverages)
        for model in ("candidate", "constant_width", "no_change")
    ]
    candidate, *rivals = stored[:3]
    assert candidate["model"] == "candidate"
    assert candidate["coverage"] == record.candidate["coverage"]
    assert candidate["nominal"] == loop.platform.params.forecast.coverage
    assert candidate["p_value"] is None
    for one in rivals:
        assert set(one["tickers"]) == {"AAPL", "FB", "GOOG", "IBM", "MSFT"}
        # The tickers have as many forecasts each.
        assert sum(one["tickers"].values()) / 5 == pytest.approx(one["coverage"])
        assert one["interval_score"] > one["width"] > 0
        assert 0 <= one["block_coverage_p05"] <= one["block_coverage_p95"] <= 1
    folder = Path(registry.client().download_artifacts(record.mlflow_run_id, "evaluation"))
    logged = pd.read_csv(folder / "intervals.csv")
    assert logged["interval_score"].tolist() == pytest.approx(
        [one["interval_score"] for one in stored]
    )
    assert "tickers" not in logged
    tickers = pd.read_csv(folder / "ticker_coverage.csv")
    assert len(tickers) == len(stored) * 5


def test_the_candidate_is_tested_against_persistence_and_production(
    loop: Loop, second_retraining: str
) -> None:
    first, second = record_of(loop, DATASET), record_of(loop, second_retraining)
    for record in (first, second):
        assert 0 <= record.candidate["p_persistence"] <= 1
        assert record.candidate["error_difference_se"] > 0
        better = record.candidate["relative_mae"] < 1
        significant = record.candidate["p_persistence"] < 0.05
        assert (record.decision.edge is Edge.BETTER) is (better and significant)
    assert "p_production" not in first.candidate
    assert 0 <= second.candidate["p_production"] <= 1


def test_the_page_of_the_run_holds_tables_and_plots(loop: Loop, registry: Registry) -> None:
    record = record_of(loop, DATASET)
    client = registry.client()
    run = client.get_run(record.mlflow_run_id)
    for name in (
        "test_p_persistence",
        "test_icir",
        "ridge_relative_mae",
        "persistence_error_difference",
    ):
        assert name in run.data.metrics
    folder = Path(client.download_artifacts(record.mlflow_run_id, ""))
    page = (folder / "evaluation.html").read_text(encoding="utf-8")
    assert record.reason.replace("'", "&#x27;") in page
    for text in (
        "All tickers together",
        "Per ticker",
        "added up over sessions",
        "ticker by ticker",
        "Correlation of",
    ):
        assert text in page
    models = pd.read_csv(folder / "evaluation" / "models.csv", index_col="figure")
    assert list(models.columns) == [
        *("candidate", "persistence", "reversal", "ridge", "gradient_boosting"),
    ]
    assert float(models.loc["relative_mae", "candidate"]) == pytest.approx(
        record.candidate["relative_mae"]
    )
    tickers = pd.read_csv(folder / "evaluation" / "tickers.csv")
    assert len(tickers) == 5 * 5
    assert len(pd.read_csv(folder / "evaluation" / "sessions.csv")) == record.candidate["sessions"]


def test_the_materialization_shows_tables_plots_and_numbers(loop: Loop) -> None:
    key = dg.AssetKey("promotion")
    found = loop.platform.instance.fetch_materializations(
        dg.AssetRecordsFilter(key, asset_partitions=[DATASET], storage_ids=None), limit=10
    ).records
    shown = found[-1].asset_materialization.metadata
    record = record_of(loop, DATASET)
    figures = {row.data["figure"]: row.data for row in shown["scores"].value.records}
    assert figures["relative_mae"]["persistence"] == 1.0
    assert figures["relative_mae"]["ridge"] == pytest.approx(
        record.persistence["baselines"]["ridge"]["relative_mae"], rel=1e-5
    )
    assert shown["p_persistence"].value == record.candidate["p_persistence"]
    tickers = {
        row.data["ticker"]: row.data
        for row in shown["per_ticker"].value.records
        if row.data["model"] == "candidate"
    }
    assert list(tickers) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert {row.data["model"] for row in shown["per_ticker"].value.records} == {
        *("candidate", "persistence")
    }
    assert tickers["IBM"]["p_persistence"] <= tickers["IBM"]["q_persistence"] <= 1
    assert len(shown["per_session"].value.records) == record.candidate["sessions"]
    assert record.mlflow_run_id in shown["plots"].value
    assert shown["plots"].value.endswith("evaluation.html")
