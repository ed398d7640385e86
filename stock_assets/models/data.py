"""What networks learn from: windows of a dataset's panel, their labels, and two segments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from stock_assets.config import Dataset
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import Scaler
from stock_assets.features.splits import Segment
from stock_assets.features.windows import Windows


@dataclass(frozen=True)
class TrainingData:
    """A panel, on the CPU, and the windows of it to learn from.

    Attributes
    ----------
    windows : Windows
        Of all T sessions, N tickers and F features.
    target : Tensor (T, N), float32
        Scaled label of each session: what the next one does; NaN where it is missing.
    horizon : int
        Labels that follow each window.
    train, validation : ndarray of int64
        Positions of the sessions at which windows end.
    """

    windows: Windows
    target: Tensor
    horizon: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]


def load_training_data(
    path: Path,
    dataset: Dataset,
    scalers: tuple[Scaler, Scaler],
    train: Segment,
    validation: Segment,
) -> TrainingData:
    """Map the panel of a dataset into memory; the test segment is left out.

    Processes that map the same file share its pages.

    Parameters
    ----------
    path : Path
        Tensor file with ``values`` (T, N, F), ``valid`` (T, N) and ``close`` (T, N).
    dataset : Dataset
        What labels are, and how long windows and horizon.
    scalers : (Scaler, Scaler)
        Of the features and of the target, fitted on training sessions.
    train, validation : Segment
        Where the windows of each end.
    """
    panel: dict[str, Tensor] = load_file(path)
    features, target = scalers
    labels = session_labels(panel["close"].numpy(), dataset.target)[..., np.newaxis]
    return TrainingData(
        windows=Windows.from_panel(panel["values"], panel["valid"], features, dataset.window),
        target=torch.from_numpy(target.transform(labels)[..., 0]),
        horizon=dataset.prediction_length,
        train=train.positions(),
        validation=validation.positions(),
    )
