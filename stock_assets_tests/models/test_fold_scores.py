"""Fold scores: each fold is scored on its test segment, without knowledge of later sessions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stock_assets.config import Forecast, Training, WalkForward
from stock_assets.models.checkpoint import CheckpointFolder
from stock_assets.models.data import Fold, open_folds
from stock_assets.models.fold_scores import score_folds
from stock_assets.models.intervals import FixedIntervals
from stock_assets.models.recipe import Recipe
from stock_assets.models.tuning import Hyperparameters
from stock_assets_tests.models.bundles import AS_OF, bundle, sample_bars
from stock_assets_tests.models.test_data import BUILT, DATASET, TWO, written

BEST = Hyperparameters("lstm", 8, 1, 0.1, 0.01, 64)
FORECAST = Forecast()
SHORT = Training(epochs=2, patience=2, seed=7, shrinkage=False)


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("panel"), BUILT.panel.values)


def scored(folds: list[Fold], recipe: Recipe | None = None) -> pd.DataFrame:
    return score_folds(folds, recipe or bundle().recipe, BEST, SHORT, FORECAST, sample_bars())


def test_fold_is_scored_on_its_test_segment(panel: Path) -> None:
    folds = list(open_folds(panel, DATASET, WalkForward(folds=3)))
    table = scored(folds[:-1])
    assert table[["fold", "model"]].to_numpy().tolist() == [
        [1, "candidate"],
        [1, "persistence"],
        [2, "candidate"],
        [2, "persistence"],
    ]
    assert table.query("model == 'persistence'")["relative_mae"].tolist() == [1, 1]
    table = table.query("model == 'candidate'")
    assert table[["coverage", "p_persistence", "icir", "base_rate_up"]].notna().all(axis=None)
    days = BUILT.panel.sessions
    for row, fold in zip(table.itertuples(), folds, strict=False):
        assert row.first_session == days[fold.split.test.first].date()
        assert row.last_session == days[fold.split.test.last].date()
        assert 0.8 < row.relative_mae < 1.3
        assert row.forecasts <= DATASET.test_sessions * len(BUILT.panel.tickers)
    assert table["last_session"].is_monotonic_increasing
    assert table["last_session"].max() < AS_OF


def test_finished_folds_are_not_trained_again(panel: Path, tmp_path: Path) -> None:
    folds = list(open_folds(panel, DATASET, WalkForward(folds=3)))[:-1]
    recipe, bars = bundle().recipe, sample_bars()

    def table(data: str, folds: list[Fold] = folds) -> pd.DataFrame:
        return score_folds(
            folds, recipe, BEST, SHORT, FORECAST, bars, CheckpointFolder(tmp_path, data)
        )

    def written() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    table("data", folds[:1])
    first = written()
    assert set(first) == {"fold-1.safetensors"}
    whole = table("data")
    assert written() == first | {"fold-2.safetensors": written()["fold-2.safetensors"]}
    pd.testing.assert_frame_equal(whole, scored(folds))
    done = written()
    table("other data")
    assert {name for name in done if written()[name] != done[name]} == set(done)
    table("other data", folds[::-1])
    assert written()["fold-1.safetensors"] > done["fold-1.safetensors"], "the split differs"


def test_scores_do_not_depend_on_sessions_after_the_fold(panel: Path) -> None:
    (fold, _) = open_folds(panel, DATASET, TWO)
    before = scored([fold])
    bars = sample_bars().copy()
    end = BUILT.panel.sessions[fold.split.test.last + DATASET.prediction_length]
    bars.loc[bars["session"] > end, ["open", "high", "low", "close"]] *= 3
    recipe = bundle().recipe
    later = score_folds([fold], recipe, BEST, SHORT, FORECAST, bars)
    pd.testing.assert_frame_equal(before, later)


def test_scores_depend_on_the_hyperparameters(panel: Path) -> None:
    (fold, _) = open_folds(panel, DATASET, TWO)
    pd.testing.assert_frame_equal(scored([fold]), scored([fold]))
    other = replace(BEST, learning_rate=0.05)
    changed = score_folds([fold], bundle().recipe, other, SHORT, FORECAST, sample_bars())
    assert changed["mae"].iloc[0] != scored([fold])["mae"].iloc[0]


def test_fold_uses_its_own_scalers_and_intervals(panel: Path) -> None:
    (fold, _) = open_folds(panel, DATASET, TWO)
    recipe = bundle().recipe
    absurd = replace(
        recipe,
        feature_scaler=replace(recipe.feature_scaler, scale=9.0 * recipe.feature_scaler.scale),
        target_scaler=replace(recipe.target_scaler, scale=9.0 * recipe.target_scaler.scale),
        intervals=FixedIntervals((99.0,), 0.9),
    )
    pd.testing.assert_frame_equal(scored([fold], absurd), scored([fold], recipe))
