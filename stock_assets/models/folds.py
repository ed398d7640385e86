"""Walk-forward folds: history divided more than once, and the data of each division."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from stock_assets.config import Dataset, WalkForward
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import Scaler, fit_scalers
from stock_assets.features.splits import Split, fold_splits
from stock_assets.models.data import TrainingData, load_training_data


@dataclass(frozen=True)
class Fold:
    """One division of history: its segments, the scalers of its training sessions, its data."""

    split: Split
    features: Scaler
    target: Scaler
    data: TrainingData


def open_folds(path: Path, dataset: Dataset, folds: WalkForward) -> Iterator[Fold]:
    """Map the panel of a dataset and divide it once per fold, when the fold is asked for.

    Parameters
    ----------
    path : Path
        Tensor file, see :func:`stock_assets.models.data.load_training_data`.
    dataset, folds : Dataset, WalkForward
        How history is divided.

    Yields
    ------
    Fold
        Oldest first; the last is the dataset's own division. Their panels share memory, and each
        has scalers that were fitted on its own training sessions alone.

    Raises
    ------
    StockAssetsError
        History is too short for so many folds.
    """
    panel = load_file(path)
    values, valid = panel["values"].numpy(), panel["valid"].numpy()
    labels = session_labels(panel["close"].numpy(), dataset.target)
    for split in fold_splits(len(values), dataset, folds):
        scalers = fit_scalers(values, valid, labels, split.train, dataset)
        data = load_training_data(path, dataset, scalers, split.train, split.validation)
        yield Fold(split, *scalers, data)


def fold_data(path: Path, dataset: Dataset, folds: WalkForward) -> list[TrainingData]:
    """Give what tuning needs of each fold, see `open_folds`."""
    return [fold.data for fold in open_folds(path, dataset, folds)]
