"""Training data: a stored panel is memory-mapped, scaled, labelled and split into folds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from stock_assets.config import Dataset, Tuning, WalkForward
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import fit_scalers
from stock_assets.features.splits import Segment, split_dataset
from stock_assets.models.data import fold_data, load_training_data, open_folds
from stock_assets.models.networks import build_network
from stock_assets.models.training import fit
from stock_assets.models.tuning import Hyperparameters, tune
from stock_assets.storage.arrays import ArrayStore
from stock_assets_tests.features.examples import same_bits
from stock_assets_tests.models.bundles import dataset
from stock_assets_tests.models.examples import WINDOW
from stock_assets_tests.models.test_tuning import SPACE, TRAINING

BUILT, DATASET = dataset()
TWO = WalkForward(folds=2)
SHORT = TRAINING.model_copy(update={"epochs": 2, "patience": 2})


@pytest.mark.parametrize("target", ["log_return", "close"])
def test_stored_panel_is_mapped_scaled_and_labelled(tmp_path: Path, target: str) -> None:
    random = np.random.default_rng(0)
    close = 100 + random.normal(size=(60, 3)).cumsum(axis=0)
    valid = random.random((60, 3)) > 0.1
    values = random.normal(5.0, 3.0, (60, 3, 2)).astype(np.float32)
    store = ArrayStore(str(tmp_path))
    stored = store.write_tensors({"values": values, "valid": valid, "close": close})
    dataset = Dataset(target=target, window=WINDOW, prediction_length=2)
    labels = session_labels(close, target)
    scalers = fit_scalers(values, valid, labels, Segment(WINDOW - 1, 30), dataset)
    path = store.local_path(stored.location)
    data = load_training_data(path, dataset, scalers, Segment(5, 30), Segment(40, 50))
    assert data.windows.values.numpy().tobytes() == values.tobytes()
    features, known = data.windows.batch(torch.tensor([30]))
    scaled = scalers[0].transform(values[25:31])
    np.testing.assert_array_equal(features[0].numpy(), scaled)
    np.testing.assert_array_equal(known[0].numpy(), valid[25:31])
    np.testing.assert_array_equal(
        data.target.numpy(), scalers[1].transform(labels[..., np.newaxis])[..., 0]
    )
    assert data.train.tolist() == list(range(5, 31))
    assert data.validation.tolist() == list(range(40, 47))
    assert data.calibration.tolist() == [48, 49, 50], "one window end is purged"
    assert data.horizon == 2


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
def test_last_fold_has_the_split_of_the_dataset(panel: Path, folds: WalkForward) -> None:
    *_, fold = open_folds(panel, DATASET, folds)
    split = split_dataset(len(BUILT.panel.sessions), DATASET, folds)
    assert fold.split == split
    scalers = fit_scalers(BUILT.panel.values, BUILT.panel.valid, BUILT.target, split.train, DATASET)
    assert [fold.features.to_dict(), fold.target.to_dict()] == [one.to_dict() for one in scalers]
    np.testing.assert_array_equal(fold.data.train, split.train.positions())
    parts = [fold.data.validation, fold.data.calibration]
    np.testing.assert_array_equal(np.concatenate(parts), split.validation.positions())


@pytest.mark.parametrize("training", ["expanding", "rolling"])
def test_earlier_fold_does_not_depend_on_later_sessions(
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
    before, after = (fold.data.target.numpy()[: seen - 1] for fold in (earlier, again))
    assert same_bits(before, after)


def test_fold_has_its_own_scalers(panel: Path) -> None:
    earlier, own = open_folds(panel, DATASET, TWO)
    assert earlier.features.to_dict() != own.features.to_dict()
    assert len(earlier.split.train) == len(own.split.train) - DATASET.test_sessions


def test_trial_loss_is_the_mean_over_the_folds(panel: Path) -> None:
    budget = Tuning(trials=2, epochs=2, patience=2, search_space=SPACE)
    tuned = tune(partial(fold_data, panel, DATASET, TWO), budget, TRAINING, "study")
    for trial in tuned.study.get_trials():
        steps = trial.intermediate_values
        assert set(steps) == {1, 2, 3, 4}
        first, second = (
            fit(build_network(chosen.network_spec(data), TRAINING.seed), data, settings)
            for chosen in [Hyperparameters.from_dict(trial.params)]
            for settings in [chosen.fit_settings(SHORT)]
            for data in fold_data(panel, DATASET, TWO)
        )
        assert [steps[1], steps[2]] == [score.validation_loss for score in first.history]
        means = [fmean([first.best.validation_loss, s.validation_loss]) for s in second.history]
        assert [steps[3], steps[4]] == means
        assert trial.value == fmean([first.best.validation_loss, second.best.validation_loss])


def test_history_too_short_for_the_folds_is_an_error(panel: Path) -> None:
    with pytest.raises(StockAssetsError, match="first of 100 folds"):
        list(open_folds(panel, DATASET, WalkForward(folds=100)))
