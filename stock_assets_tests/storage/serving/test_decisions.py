"""Lists of decisions and model versions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from sqlalchemy import Engine

from stock_assets.storage.datasets import save_panel, save_tuning
from stock_assets.storage.decisions import record_refit, record_retraining_decision, save_promotion
from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.serving.datasets import find_panel, find_tuning, list_panels
from stock_assets.storage.serving.decisions import (
    MODEL_ORDER,
    PROMOTION_ORDER,
    ModelFilter,
    find_model,
    find_promotion,
    list_models,
    list_promotions,
    list_retrainings,
    promotion_in_force,
    scored_sessions,
)
from stock_assets_tests.storage.examples import (
    DATASET,
    DAYS,
    MODEL,
    PRODUCTION,
    PROMOTION,
    RETRAINING,
    forecasts,
    panel,
    put_in_force,
)

LATER = "20130131_120000"
BETWEEN = "20130115_120000"
EVERYTHING = 1000


def decide(engine: Engine) -> None:
    """A first model; one that was refused; one that was promoted and trained again."""
    refused = replace(PROMOTION, dataset_run_id=BETWEEN, candidate_version=2, promoted=False)
    winner = replace(
        PROMOTION, dataset_run_id=LATER, candidate_version=3, as_of_session=date(2013, 1, 31)
    )
    for decided in (PROMOTION, refused, winner):
        save_panel(engine, panel(decided.dataset_run_id))
        save_promotion(engine, decided)
    record_refit(engine, winner, 4)
    save_predictions(engine, forecasts(DAYS[2:5]), DAYS[2:5], 1)


def test_versions_are_candidates_and_refits(engine: Engine) -> None:
    decide(engine)
    rows = list_models(engine, MODEL, ModelFilter(), EVERYTHING)
    versions = [(row["model_version"], row["refit_of"], row["promoted"]) for row in rows]
    assert versions == [(4, 3, True), (3, None, False), (2, None, False), (1, None, True)]
    assert (rows[3]["first_forecast"], rows[3]["last_forecast"]) == (DAYS[2], DAYS[4])
    assert rows[0]["last_forecast"] is None


def test_versions_are_filtered_and_paged(engine: Engine) -> None:
    decide(engine)
    whole = list_models(engine, MODEL, ModelFilter(), EVERYTHING)
    second = tuple(whole[1][name] for name in MODEL_ORDER)
    assert list_models(engine, MODEL, ModelFilter(), 2, second) == whole[2:]
    assert list_models(engine, MODEL, ModelFilter(LATER), EVERYTHING) == whole[:2]
    refused = list_models(engine, MODEL, ModelFilter(promoted=False), EVERYTHING)
    assert refused == [whole[1], whole[2]]
    assert list_models(engine, MODEL, ModelFilter(model_name="Another"), EVERYTHING) == []
    assert [find_model(engine, MODEL, row["model_version"]) for row in whole] == whole
    assert find_model(engine, MODEL, 5) is None


def test_a_refit_has_the_decision_about_its_candidate(engine: Engine) -> None:
    decide(engine)
    rows = list_models(engine, MODEL, ModelFilter(), EVERYTHING)
    found = {row["model_version"]: find_promotion(engine, row) for row in rows}
    assert found[4] == found[3]
    assert found[4] is not None
    assert found[4]["dataset_run_id"] == LATER


def test_a_version_put_in_force_without_a_decision_is_listed(engine: Engine) -> None:
    decide(engine)
    chosen = replace(PRODUCTION, version=5, dataset_run_id=BETWEEN, as_of=date(2013, 1, 15))
    put_in_force(engine, chosen)
    put_in_force(engine, PRODUCTION)
    put_in_force(engine, chosen)
    rows = list_models(engine, MODEL, ModelFilter(), EVERYTHING)
    assert [row["model_version"] for row in rows] == [5, 4, 3, 2, 1]
    assert (rows[0]["promoted"], rows[0]["decided_at"]) == (None, None)
    assert (rows[0]["as_of_session"], rows[0]["mlflow_run_id"]) == (chosen.as_of, "abc")
    assert rows[0]["in_production"] is True
    assert find_promotion(engine, rows[0]) is None


def test_equal_numbers_of_two_registered_models_are_two_versions(engine: Engine) -> None:
    decide(engine)
    put_in_force(engine)
    save_promotion(
        engine,
        replace(PROMOTION, model_name="Another", dataset_run_id=BETWEEN, promoted=False),
    )
    rows = list_models(engine, MODEL, ModelFilter(), EVERYTHING)
    ones = [row for row in rows if row["model_version"] == 1]
    assert [(row["model_name"], row["in_production"]) for row in ones] == [
        ("Another", False),
        (MODEL, True),
    ]
    assert [row["first_forecast"] for row in ones] == [None, DAYS[2]]
    assert find_model(engine, MODEL, 1) == ones[1]
    assert find_model(engine, MODEL, 1, BETWEEN) == ones[0]
    assert find_model(engine, "Another", 1) == {**ones[0], "in_production": False}
    assert promotion_in_force(engine, "Another") is None
    own = list_promotions(engine, None, None, EVERYTHING, model_name="Another")
    assert [row["promoted"] for row in own] == [False]


def test_no_version_is_in_production_before_the_first_promotion(engine: Engine) -> None:
    save_panel(engine, panel(DATASET))
    save_promotion(engine, replace(PROMOTION, promoted=False))
    (row,) = list_models(engine, MODEL, ModelFilter(), EVERYTHING)
    assert row["in_production"] is False
    assert promotion_in_force(engine, MODEL) is None


def test_production_is_that_of_the_history_and_not_of_the_newest_decision(engine: Engine) -> None:
    decide(engine)
    put_in_force(engine, replace(PRODUCTION, version=4, refit_of=3, dataset_run_id=LATER))
    found = promotion_in_force(engine, MODEL)
    assert found is not None
    assert (found.candidate_version, found.refit_version) == (3, 4)
    put_in_force(engine, PRODUCTION)
    assert promotion_in_force(engine, MODEL) == PROMOTION
    rows = list_models(engine, MODEL, ModelFilter(), EVERYTHING)
    assert [row["model_version"] for row in rows if row["in_production"]] == [1]


def test_a_number_of_another_dataset_is_another_version(engine: Engine) -> None:
    decide(engine)
    put_in_force(engine, replace(PRODUCTION, dataset_run_id="20100101_120000"))
    assert promotion_in_force(engine, MODEL) is None
    rows = list_models(engine, MODEL, ModelFilter(), EVERYTHING)
    in_production = [row for row in rows if row["in_production"]]
    assert [row["dataset_run_id"] for row in in_production] == ["20100101_120000"]


def test_promotions_are_listed_last_first(engine: Engine) -> None:
    decide(engine)
    whole = list_promotions(engine, None, None, EVERYTHING)
    assert [row["candidate_version"] for row in whole] == [3, 2, 1]
    second = tuple(whole[1][name] for name in PROMOTION_ORDER)
    assert list_promotions(engine, None, None, EVERYTHING, second) == whole[2:]
    assert list_promotions(engine, BETWEEN, None, EVERYTHING) == whole[1:2]
    assert list_promotions(engine, None, True, EVERYTHING) == [whole[0], whole[2]]
    assert whole[2]["candidate"] == PROMOTION.candidate
    assert (whole[2]["decision"], whole[2]["reason"]) == (PROMOTION.decision, PROMOTION.reason)


def test_retrainings_are_listed_newest_first(engine: Engine) -> None:
    calm = replace(RETRAINING, session=DAYS[3], retrain=False, dataset_run_id=None)
    for record in (RETRAINING, calm):
        record_retraining_decision(engine, record)
    whole = list_retrainings(engine, None, None, None, EVERYTHING)
    assert [row["session"] for row in whole] == [DAYS[3], DAYS[0]]
    assert list_retrainings(engine, None, None, None, EVERYTHING, (DAYS[3],)) == whole[1:]
    assert list_retrainings(engine, True, None, None, EVERYTHING) == whole[1:]
    assert list_retrainings(engine, None, DAYS[1], None, EVERYTHING) == whole[:1]
    assert list_retrainings(engine, None, None, DAYS[1], EVERYTHING) == whole[1:]


def test_scored_forecasts_of_a_version_are_counted(engine: Engine) -> None:
    assert scored_sessions(engine, 1, DATASET) == {
        "forecasts": 0,
        "first_session": None,
        "last_session": None,
    }


def test_datasets_are_listed_newest_first(engine: Engine) -> None:
    for dataset in (DATASET, LATER):
        save_panel(engine, panel(dataset))
    save_tuning(engine, DATASET, {"layers": 1}, 0.5, [{"number": 0}, {"number": 1}])
    whole = list_panels(engine, None, None, EVERYTHING)
    assert [row["dataset_run_id"] for row in whole] == [LATER, DATASET]
    assert (whole[0]["tickers"], whole[0]["features"]) == (2, 2)
    assert list_panels(engine, None, None, EVERYTHING, (LATER,)) == whole[1:]
    assert list_panels(engine, DAYS[0], None, EVERYTHING) == []
    found = find_panel(engine, DATASET)
    assert found is not None
    assert found["params"] == panel(DATASET).params
    assert find_panel(engine, BETWEEN) is None
    assert find_tuning(engine, DATASET) == {
        "best_params": {"layers": 1},
        "best_value": 0.5,
        "trials": 2,
    }
    assert find_tuning(engine, LATER) is None
