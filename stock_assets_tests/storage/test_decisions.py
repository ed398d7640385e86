"""Stored decisions about models: promotions, refits and retrainings."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import Engine

from stock_assets.core.errors import StockAssetsError
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import (
    last_retraining_session,
    promotion_of,
    promotions,
    record_refit,
    record_retraining_decision,
    retraining_decisions_newest_first,
    save_promotion,
)
from stock_assets_tests.storage.examples import (
    ALARM,
    DATASET,
    DAYS,
    MODEL,
    PROMOTION,
    RETRAINING,
    panel,
)


def test_promotion_of_returns_the_saved_record(engine: Engine) -> None:
    save_panel(engine, panel(DATASET))
    assert promotion_of(engine, MODEL, DATASET) is None
    save_promotion(engine, PROMOTION)
    assert promotion_of(engine, MODEL, DATASET) == PROMOTION
    changed = replace(
        PROMOTION, candidate_version=2, production={"relative_mae": 1.0}, promoted=False
    )
    save_promotion(engine, changed)
    assert promotions(engine, MODEL) == [changed, PROMOTION]
    save_promotion(engine, replace(PROMOTION, promoted=False))  # the first decision is kept
    assert promotion_of(engine, MODEL, DATASET, PROMOTION.candidate_version) == PROMOTION


def test_record_refit_changes_only_the_decision_of_its_candidate(engine: Engine) -> None:
    save_panel(engine, panel(DATASET))
    other = replace(PROMOTION, candidate_version=2)
    for record in (PROMOTION, other):
        assert record.promoted_version == record.candidate_version
        save_promotion(engine, record)
    added = record_refit(engine, PROMOTION, 3)
    assert added == replace(PROMOTION, refit_version=3)
    assert added.promoted_version == 3
    assert promotions(engine, MODEL) == [other, added]


def test_promotions_are_listed_last_first(
    engine: Engine,
) -> None:
    days = [date(2012, 12, 31), date(2013, 1, 31), date(2012, 6, 29), date(2013, 1, 31)]
    for version, day in enumerate(days, start=1):
        dataset = f"{day:%Y%m%d}_12000{version}"
        save_panel(engine, panel(dataset))
        save_promotion(
            engine,
            replace(
                PROMOTION,
                dataset_run_id=dataset,
                as_of_session=day,
                candidate_version=version,
            ),
        )
    assert [record.candidate_version for record in promotions(engine, MODEL)] == [4, 3, 2, 1]
    assert promotions(engine, "Another") == []
    assert promotion_of(engine, "Another", PROMOTION.dataset_run_id) is None


def test_a_retraining_decision_shows_its_breaches_and_scores() -> None:
    shown = RETRAINING.to_dict()
    assert shown["breaches"] == ["relative MAE 1.600 exceeds 1.500"]
    assert shown["metrics"] == {"relative_mae": 1.6, "ic": None}
    printed = json.loads(json.dumps(shown, default=str))
    assert printed["decision"]["alarm"]["path"] == {"2012-12-31": 0.6, str(DAYS[0]): 1.2}


def test_the_state_of_the_detectors_is_read_back_in_order(engine: Engine) -> None:
    (stored,) = [record_retraining_decision(engine, RETRAINING).decision.alarm]
    assert stored == ALARM
    assert [*stored.path] == [*ALARM.path]
    assert [*stored.detectors] == ["loss", "above", "below"]


def test_a_decision_to_retrain_is_final(engine: Engine) -> None:
    assert record_retraining_decision(engine, RETRAINING) == RETRAINING
    other = replace(RETRAINING, retrain=False, dataset_run_id=None)
    assert record_retraining_decision(engine, other) == RETRAINING
    assert record_retraining_decision(engine, replace(RETRAINING, dataset_run_id="x")) == RETRAINING
    assert retraining_decisions_newest_first(engine) == [RETRAINING]


def test_last_retraining_session_ignores_decisions_not_to_retrain(engine: Engine) -> None:
    assert last_retraining_session(engine) is None
    for number, retrain in enumerate([True, True, False]):
        record_retraining_decision(
            engine, replace(RETRAINING, session=DAYS[number], retrain=retrain)
        )
    assert last_retraining_session(engine) == DAYS[1]
    newest = [record.session for record in retraining_decisions_newest_first(engine)]
    assert newest == [DAYS[2], DAYS[1], DAYS[0]]


def test_a_decision_about_a_version_of_another_registered_model_is_not_lost(
    engine: Engine,
) -> None:
    save_panel(engine, panel(DATASET))
    save_promotion(engine, PROMOTION)
    with pytest.raises(StockAssetsError, match=f"as a version of {MODEL}") as caught:
        save_promotion(engine, replace(PROMOTION, model_name="Another"))
    assert "stock-assets retrain" in caught.value.remedy
    assert promotions(engine, "Another") == []
