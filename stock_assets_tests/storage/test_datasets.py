"""Records of datasets: read as they were stored, or an error with a remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from stock_assets.core.errors import StockAssetsError
from stock_assets.features.scaling import fit_scaler
from stock_assets.storage.datasets import (
    SegmentRecord,
    list_datasets,
    load_panel,
    load_scalers,
    load_segments,
    load_tuning,
    previous_best_params,
    save_panel,
    save_scalers,
    save_segments,
    save_tuning,
    scaler_summary,
    segments_of,
)
from stock_assets.storage.decisions import save_promotion
from stock_assets.storage.tables import processed_feature_data
from stock_assets_tests.storage.examples import DATASET, PANEL, PROMOTION, panel

STRETCHES = [
    SegmentRecord(
        name, date(2012, 1, 3 + number), date(2012, 2, 1 + number), number, 9, 30, "d" * 64
    )
    for number, name in enumerate(["train", "validation", "test"])
]


def test_load_panel_returns_the_saved_record(engine: Engine) -> None:
    save_panel(engine, PANEL)
    assert load_panel(engine, DATASET) == PANEL


@pytest.mark.parametrize("rows", ["the same rows", "other rows"])
def test_a_rebuilt_panel_keeps_its_age_if_its_rows_are_equal(engine: Engine, rows: str) -> None:
    created = select(processed_feature_data.c.created_at)
    save_panel(engine, PANEL)
    with engine.connect() as connection:
        before = connection.scalars(created).all()
    again = replace(PANEL, bars=7, digest="e" * 64)
    if rows == "other rows":
        again = replace(again, bars_digest="f" * 64)
    save_panel(engine, again)
    assert load_panel(engine, DATASET) == again
    with engine.connect() as connection:
        assert (connection.scalars(created).all() == before) is (rows == "the same rows")


def test_load_scalers_returns_the_same_bits(engine: Engine) -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(80, 2, 3)) * 10.0 ** random.integers(-12, 12, (1, 2, 3))
    fitted = fit_scaler(values, np.ones((80, 2), dtype=bool), "standard").to_dict()
    save_panel(engine, PANEL)
    save_scalers(engine, DATASET, fitted, {"kind": "zero_mean"}, "x")
    assert load_scalers(engine, DATASET) == (fitted, {"kind": "zero_mean"})


def test_segments_are_replaced_as_a_whole(engine: Engine) -> None:
    save_panel(engine, PANEL)
    save_segments(engine, DATASET, [replace(STRETCHES[0], set_name="older"), *STRETCHES])
    save_segments(engine, DATASET, STRETCHES)
    assert load_segments(engine, DATASET) == {part.set_name: part for part in STRETCHES}


def test_parts_that_are_not_built_differ_from_an_unknown_dataset(engine: Engine) -> None:
    save_panel(engine, PANEL)
    assert scaler_summary(engine, DATASET) is None
    assert segments_of(engine, DATASET) == []
    save_scalers(engine, DATASET, {"kind": "minmax"}, {"kind": "zero_mean"}, "x")
    expected = {"kind": "minmax", "target_kind": "zero_mean", "digest": "x"}
    assert scaler_summary(engine, DATASET) == expected


def test_segments_are_in_order_of_time(engine: Engine) -> None:
    save_panel(engine, PANEL)
    save_segments(engine, DATASET, STRETCHES[::-1])
    assert segments_of(engine, DATASET) == STRETCHES


def test_an_old_panel_has_no_build_environment(engine: Engine) -> None:
    save_panel(engine, replace(PANEL, build_environment=None))
    assert load_panel(engine, DATASET).build_environment is None


def test_datasets_are_listed_newest_first_with_their_last_decision(engine: Engine) -> None:
    for name in (DATASET, "20130107_120000", "20121231_130000"):
        save_panel(engine, panel(name))
    for version, promoted in ((2, False), (1, True)):
        decided = replace(PROMOTION, candidate_version=version, promoted=promoted)
        save_promotion(engine, decided)
    listed = list_datasets(engine)
    assert [row["dataset_run_id"] for row in listed] == [
        "20130107_120000",
        "20121231_130000",
        DATASET,
    ]
    assert (listed[0]["candidate_version"], listed[0]["promoted"]) == (None, None)
    assert (listed[2]["candidate_version"], listed[2]["promoted"]) == (2, False)
    assert (listed[2]["tickers"], listed[2]["features"]) == (2, 2)


def test_tuning_is_stored_with_every_trial(engine: Engine) -> None:
    save_panel(engine, PANEL)
    trials = [{"number": 0, "value": 0.5, "state": "COMPLETE"}, {"number": 1, "value": None}]
    save_tuning(engine, DATASET, {"layers": 1}, 0.5, trials)
    save_tuning(engine, DATASET, {"layers": 2, "learning_rate": 1 / 3}, 0.25, trials)
    assert load_tuning(engine, DATASET) == {"layers": 2, "learning_rate": 1 / 3}


def test_previous_best_params_are_of_a_dataset_that_ended_before_the_test_segment(
    engine: Engine,
) -> None:
    """Its newest validation label is the session after 2012-02-02, a Thursday."""
    for day, layers in ((date(2012, 12, 27), 1), (date(2012, 12, 28), 2)):
        name = f"{day:%Y%m%d}_120000"
        save_panel(engine, replace(panel(name), as_of_session=day))
        last = STRETCHES[1].last_session if layers == 1 else date(2012, 2, 8)
        save_segments(
            engine, name, [STRETCHES[0], replace(STRETCHES[1], last_session=last), STRETCHES[2]]
        )
        save_tuning(engine, name, {"layers": layers}, 0.5, [])
    as_of = date(2012, 12, 31)
    found = {day: previous_best_params(engine, as_of, date(2012, 2, day)) for day in (2, 3, 8, 9)}
    assert found == {2: None, 3: {"layers": 1}, 8: {"layers": 1}, 9: {"layers": 2}}
    assert previous_best_params(engine, date(2012, 12, 28), date(2012, 2, 9)) == {"layers": 1}
    assert previous_best_params(engine, date(2012, 12, 27), date(2012, 2, 9)) is None


def test_datasets_are_independent(engine: Engine) -> None:
    other = "20121231_130000"
    for number, name in enumerate((DATASET, other)):
        save_panel(engine, panel(name))
        save_tuning(engine, name, {"layers": number}, 0.5, [])
        save_segments(engine, name, STRETCHES[: number + 1])
    assert load_tuning(engine, DATASET) == {"layers": 0}
    assert list(load_segments(engine, DATASET)) == ["train"]
    assert load_panel(engine, other).dataset_run_id == other


def test_parts_need_the_panel_of_their_dataset(engine: Engine) -> None:
    with pytest.raises(IntegrityError, match="foreign key"):
        save_tuning(engine, DATASET, {}, 0.5, [])


LOADERS = [load_panel, load_scalers, load_segments, load_tuning]


@pytest.mark.parametrize("load", LOADERS)
def test_without_datasets_the_remedy_is_a_retraining(
    engine: Engine, load: Callable[[Engine, str], object]
) -> None:
    with pytest.raises(StockAssetsError, match=r"Build one: stock-assets retrain\.$") as caught:
        load(engine, DATASET)
    assert f"dataset {DATASET} has no row in " in caught.value.problem
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", LOADERS)
def test_an_unknown_dataset_is_an_error_with_the_newest_three(
    engine: Engine, load: Callable[[Engine, str], object]
) -> None:
    for day in ("03", "04", "07", "02"):
        save_panel(engine, panel(f"201301{day}_120000"))
        save_scalers(engine, f"201301{day}_120000", {}, {}, "x")
        save_segments(engine, f"201301{day}_120000", STRETCHES)
        save_tuning(engine, f"201301{day}_120000", {}, 0.5, [])
    with pytest.raises(StockAssetsError) as caught:
        load(engine, DATASET)
    assert caught.value.remedy == (
        "The newest there are 20130107_120000, 20130104_120000, 20130103_120000"
    )
