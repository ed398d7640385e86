"""Folds: each is divided and scaled by what came before its own end."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from stock_assets.config import Tuning, WalkForward
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.scaling import fit_scalers
from stock_assets.features.splits import split_dataset
from stock_assets.models.folds import fold_data, open_folds
from stock_assets.models.networks import build_network
from stock_assets.models.training import fit
from stock_assets.models.tuning import Hyperparameters, tune
from stock_assets.storage.arrays import ArrayStore
from stock_assets_tests.features.examples import same_bits
from stock_assets_tests.models.bundles import dataset
from stock_assets_tests.models.test_tuning import SPACE, TRAINING

BUILT, DATASET = dataset()
TWO = WalkForward(folds=2)


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("panel"), BUILT.panel.values)


def written(folder: Path, values: np.ndarray) -> Path:
    store = ArrayStore(str(folder))
    tensors = {"values": values, "valid": BUILT.panel.valid, "close": BUILT.panel.close}
    return store.local_path(store.write_tensors(tensors).location)


@pytest.mark.parametrize(
    "folds",
    [WalkForward(), WalkForward(folds=2), WalkForward(folds=2, training="rolling")],
    ids=str,
)
def test_the_last_fold_is_the_division_of_the_dataset(panel: Path, folds: WalkForward) -> None:
    *_, fold = open_folds(panel, DATASET, folds)
    split = split_dataset(len(BUILT.panel.sessions), DATASET, folds)
    assert fold.split == split
    scalers = fit_scalers(BUILT.panel.values, BUILT.panel.valid, BUILT.target, split.train, DATASET)
    assert [fold.features.to_dict(), fold.target.to_dict()] == [one.to_dict() for one in scalers]
    np.testing.assert_array_equal(fold.data.train, split.train.positions())
    np.testing.assert_array_equal(fold.data.validation, split.validation.positions())


@pytest.mark.parametrize("training", ["expanding", "rolling"])
def test_an_earlier_fold_knows_nothing_of_later_sessions(
    panel: Path, tmp_path: Path, training: str
) -> None:
    folds = TWO.model_copy(update={"training": training})
    earlier, _ = open_folds(panel, DATASET, folds)
    seen = earlier.split.validation.last + 1
    values = BUILT.panel.values.copy()
    values[seen:] = 1e6
    again, _ = open_folds(written(tmp_path, values), DATASET, folds)
    assert again.features.to_dict() == earlier.features.to_dict()
    assert again.target.to_dict() == earlier.target.to_dict()
    for left, right in ((earlier.data.target, again.data.target),):
        assert same_bits(left.numpy()[: seen - 1], right.numpy()[: seen - 1])


def test_the_scalers_of_a_fold_are_its_own(panel: Path) -> None:
    earlier, own = open_folds(panel, DATASET, TWO)
    assert earlier.features.to_dict() != own.features.to_dict()
    assert len(earlier.split.train) == len(own.split.train) - DATASET.test_sessions


def test_a_trial_is_judged_by_the_mean_over_the_folds(panel: Path) -> None:
    budget = Tuning(trials=2, epochs=2, patience=2, search_space=SPACE)
    tuned = tune(partial(fold_data, panel, DATASET, TWO), budget, TRAINING, "study")
    for trial in tuned.study.get_trials():
        steps = trial.intermediate_values
        assert set(steps) == {1, 2, 3, 4}
        first, second = (
            fit(build_network(chosen.network_spec(data), TRAINING.seed), data, settings)
            for chosen in [Hyperparameters.from_dict(trial.params)]
            for settings in [replace(chosen.fit_settings(TRAINING), epochs=2, patience=2)]
            for data in fold_data(panel, DATASET, TWO)
        )
        assert [steps[1], steps[2]] == [score.validation_loss for score in first.history]
        means = [fmean([first.best.validation_loss, s.validation_loss]) for s in second.history]
        assert [steps[3], steps[4]] == means
        assert trial.value == fmean([first.best.validation_loss, second.best.validation_loss])


def test_history_that_is_too_short_for_the_folds_is_told(panel: Path) -> None:
    with pytest.raises(StockAssetsError, match="Lower walk_forward"):
        list(open_folds(panel, DATASET, WalkForward(folds=100)))
