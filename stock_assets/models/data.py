"""Training data: windows, labels and segments of a stored panel, and its walk-forward folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from stock_assets.config import Dataset, WalkForward
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import Scaler, fit_scalers
from stock_assets.features.splits import Segment, Split, fold_splits, split_validation
from stock_assets.features.windows import Windows


@dataclass(frozen=True)
class TrainingData:
    """A panel on the CPU with its labels and the windows to train and validate on.

    Attributes
    ----------
    windows : Windows
        Of all T sessions, N tickers and F features.
    target : (T, N) float32 tensor
        Scaled first label of the window that ends at each session; NaN where missing.
    horizon : int
        Labels per window.
    train : ndarray of int64
        Window ends of the train segment.
    validation, calibration : ndarray of int64
        Window ends of the validation segment for tuning and early stopping, and of its last third,
        for shrinkage and intervals.
    """

    windows: Windows
    target: Tensor
    horizon: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    calibration: NDArray[np.int64]

    @property
    def newest_label(self) -> int:
        """Position of the newest session whose price is a label of the train segment."""
        read = self.target[: self.train[-1] + self.horizon]
        return int(torch.isfinite(read).any(dim=1).nonzero()[-1]) + 1


def load_training_data(
    path: Path,
    dataset: Dataset,
    scalers: tuple[Scaler, Scaler],
    train: Segment,
    validation: Segment,
) -> TrainingData:
    """Memory-map the panel of a dataset, without access to its test segment.

    Processes that map the same file share its memory.

    Parameters
    ----------
    path : Path
        Safetensors file with ``values`` (T, N, F), ``valid`` (T, N) and ``close`` (T, N).
    dataset : Dataset
        Target, window and horizon.
    scalers : (Scaler, Scaler)
        Of the features and of the target, fitted to training sessions.
    train, validation : Segment
        Window ends.

    Raises
    ------
    StockAssetsError
        The validation segment is too short for calibration.
    """
    return training_data(load_file(path), dataset, scalers, train, validation)


def training_data(
    panel: Mapping[str, Tensor],
    dataset: Dataset,
    scalers: tuple[Scaler, Scaler],
    train: Segment,
    validation: Segment,
) -> TrainingData:
    """Return the training data of a panel in memory; arguments as for `load_training_data`."""
    selection, calibration = split_validation(validation, dataset)
    features, target = scalers
    labels = session_labels(panel["close"].numpy(), dataset.target)[..., np.newaxis]
    return TrainingData(
        windows=Windows.from_panel(panel["values"], panel["valid"], features, dataset.window),
        target=torch.from_numpy(target.transform(labels)[..., 0]),
        horizon=dataset.prediction_length,
        train=train.positions(),
        validation=selection.positions(),
        calibration=calibration.positions(),
    )


@dataclass(frozen=True)
class Fold:
    """A walk-forward fold: its segments, the scalers of its train segment, and its data."""

    split: Split
    features: Scaler
    target: Scaler
    data: TrainingData


def open_folds(path: Path, dataset: Dataset, folds: WalkForward) -> Iterator[Fold]:
    """Memory-map the panel of a dataset and split it once per walk-forward fold.

    Parameters
    ----------
    path : Path
        See :func:`load_training_data`.
    dataset, folds : Dataset, WalkForward

    Yields
    ------
    Fold
        Oldest first; the last has the split of the dataset itself. Folds share the memory of the
        panel. The scalers of each are fitted to its own train segment.

    Raises
    ------
    StockAssetsError
        History is too short for the folds.
    """
    panel = load_file(path)
    values, valid = panel["values"].numpy(), panel["valid"].numpy()
    labels = session_labels(panel["close"].numpy(), dataset.target)
    for split in fold_splits(len(values), dataset, folds):
        scalers = fit_scalers(values, valid, labels, split.train, dataset)
        data = load_training_data(path, dataset, scalers, split.train, split.validation)
        yield Fold(split, *scalers, data)


def fold_data(path: Path, dataset: Dataset, folds: WalkForward) -> list[TrainingData]:
    """Return the training data of each fold, see :func:`open_folds`."""
    return [fold.data for fold in open_folds(path, dataset, folds)]
