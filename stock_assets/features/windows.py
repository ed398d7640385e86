"""Windows over the panel: which sessions belong to which segment, and cutting them when needed.

A window is named by its end. The window that ends at position t reads rows
``t - window + 1 ... t`` and is labelled with rows ``t + 1 ... t + horizon``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stock_assets.config import FoldTraining
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.scaling import Scaler

COVERAGE = 0.9
"""Least share of valid sessions in a window that something is learned from or forecast by."""


@dataclass(frozen=True)
class Segment:
    """Consecutive window ends, `first` and `last` included, as positions in the sessions."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def positions(self) -> NDArray[np.int64]:
        """All window ends, oldest first."""
        return np.arange(self.first, self.last + 1, dtype=np.int64)


@dataclass(frozen=True)
class Split:
    """Three segments of time in order, with `purge` window ends left out between neighbours."""

    train: Segment
    validation: Segment
    test: Segment
    purge: int


def split_sessions(
    count: int, *, window: int, horizon: int, validation: int, test: int, embargo: int
) -> Split:
    """Divide the windows of `count` sessions into training, validation and test.

    The test segment is the newest: its last label is the last session. Between two segments
    ``window + horizon - 1 + embargo`` window ends are skipped, so that the last label of the one
    lies before the first input of the next (purge and embargo: López de Prado, Advances in
    Financial Machine Learning, 2018, chapter 7).

    Parameters
    ----------
    count : int
        Sessions there are.
    window, horizon : int
        Sessions a window reads, and sessions it is labelled with.
    validation, test : int
        Window ends in these segments; training has all that come before.
    embargo : int
        Sessions left out beside the purge.

    Raises
    ------
    StockAssetsError
        Nothing would be left for training.
    """
    purge = window + horizon - 1 + embargo
    test_last = count - 1 - horizon
    test_first = test_last - test + 1
    validation_last = test_first - purge - 1
    validation_first = validation_last - validation + 1
    train_last = validation_first - purge - 1
    train_first = window - 1
    missing = train_first - train_last
    if missing > 0:
        raise StockAssetsError(
            f"{count} sessions of history are too few: {count + missing} are needed for "
            f"a window of {window}, {validation} validation and {test} test sessions",
            "Fetch more history, or lower dataset.window, validation_sessions or test_sessions",
        )
    return Split(
        train=Segment(train_first, train_last),
        validation=Segment(validation_first, validation_last),
        test=Segment(test_first, test_last),
        purge=purge,
    )


def walk_forward(
    count: int,
    *,
    folds: int,
    training: FoldTraining,
    window: int,
    horizon: int,
    validation: int,
    test: int,
    embargo: int,
) -> list[Split]:
    """Divide the windows of `count` sessions several times, each time as of a later session.

    Every fold is what :func:`split_sessions` gives for the sessions up to its end. The last fold
    ends with the last session; each one before ends as many sessions earlier as a test segment is
    long, so that the test segments follow upon each other and no two overlap (walk-forward or
    rolling-origin evaluation: Tashman 2000, "Out-of-sample tests of forecasting accuracy", Int. J.
    Forecasting 16).

    Parameters
    ----------
    count : int
        Sessions there are.
    folds : int
        How often to divide.
    training : {"expanding", "rolling"}
        Whether a training segment starts with history, or is as long as that of the first fold.
    window, horizon, validation, test, embargo : int
        As for :func:`split_sessions`.

    Returns
    -------
    list of Split
        Oldest first.

    Raises
    ------
    StockAssetsError
        Nothing would be left for training in the first fold.
    """
    try:
        splits = [
            split_sessions(
                count - later * test,
                window=window,
                horizon=horizon,
                validation=validation,
                test=test,
                embargo=embargo,
            )
            for later in reversed(range(folds))
        ]
    except StockAssetsError as error:
        if folds == 1:
            raise
        raise StockAssetsError(
            f"the first of {folds} folds has no session to train on: {error.problem}",
            "Lower walk_forward.folds, or fetch more history",
        ) from None
    if training == "expanding":
        return splits
    length = len(splits[0].train)
    return [
        replace(split, train=Segment(split.train.last - length + 1, split.train.last))
        for split in splits
    ]


def usable(
    valid: NDArray[np.bool_],
    ends: NDArray[np.int64],
    window: int,
    coverage: float = COVERAGE,
) -> NDArray[np.bool_]:
    """Which tickers a window says enough about to learn from it, or to forecast.

    Parameters
    ----------
    valid : (T, N) bool
        Which rows of the panel hold features.
    ends : (B,) int64
        Window ends, each at least ``window - 1``.
    window : int
        Sessions a window reads.
    coverage : float
        Least share of valid rows in the window.

    Returns
    -------
    (B, N) bool
        The last row is valid, and enough of the window is.

    Raises
    ------
    ValueError
        A window starts before the first row.
    """
    if len(ends) and ends.min() < window - 1:
        raise ValueError(f"the window of {window} that ends at {ends.min()} starts before row 0")
    seen = np.zeros((len(valid) + 1, valid.shape[1]), dtype=np.int64)
    np.cumsum(valid, axis=0, out=seen[1:])
    share = (seen[ends + 1] - seen[ends + 1 - window]) / window
    enough: NDArray[np.bool_] = valid[ends] & (share >= coverage)
    return enough


def gather(values: Tensor, ends: Tensor, window: int) -> Tensor:
    """Cut the windows that end at some rows, and no others.

    Parameters
    ----------
    values : (T, ...) tensor
        Features (T, N, F) or validity (T, N), possibly memory-mapped: only the rows asked for are
        read.
    ends : (B,) int64 tensor
        Window ends, on the device of `values`, in any order.
    window : int
        Sessions a window reads.

    Returns
    -------
    (B, window, ...) tensor
        Oldest session first, in the dtype of `values`; a copy, which lies session by session in
        memory, as recurrent networks read it.

    Raises
    ------
    IndexError
        A window starts before the first row or ends after the last.
    """
    offsets = torch.arange(1 - window, 1, device=ends.device)
    rows = offsets.unsqueeze(1) + ends
    picked = values.index_select(0, rows.flatten())
    return picked.view(*rows.shape, *values.shape[1:]).transpose(0, 1)


@dataclass(frozen=True)
class Windows:
    """The scaled windows of a panel, which are cut and scaled when they are asked for.

    Training, tuning, calibration and serving all cut theirs here, so that the same rows are the
    same numbers everywhere, to the bit.

    Attributes
    ----------
    values : (T, N, F) float32 tensor
        Features in their own units, possibly memory-mapped: only rows that are asked for are read.
    valid : (T, N) bool tensor
    centre, scale : (N, F) float32 tensors
        What is taken off the features, and what they are then divided by.
    length : int
        Sessions a window reads, L.
    """

    values: Tensor
    valid: Tensor
    centre: Tensor
    scale: Tensor
    length: int

    @classmethod
    def over(cls, values: Tensor, valid: Tensor, scaler: Scaler, length: int) -> Windows:
        """Join a panel with the scaler of its features."""
        centre, scale = (
            torch.from_numpy(numbers.astype(np.float32))
            for numbers in (scaler.centre, scaler.scale)
        )
        return cls(values, valid, centre, scale, length)

    def to(self, device: torch.device) -> Windows:
        """Give the same windows on another device; on the one they are on, nothing is copied."""
        values, valid, centre, scale = (
            tensor.to(device) for tensor in (self.values, self.valid, self.centre, self.scale)
        )
        return replace(self, values=values, valid=valid, centre=centre, scale=scale)

    def cut(self, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Cut the windows that end at some rows.

        Parameters
        ----------
        ends : (B,) int64 tensor
            Window ends, on the device of the panel, in any order.

        Returns
        -------
        (B, L, N, F) float32 and (B, L, N) bool
            Scaled features, oldest session first and of no meaning where not valid, and validity.

        Raises
        ------
        IndexError
            A window starts before the first row or ends after the last.
        """
        features = gather(self.values, ends, self.length)
        features.sub_(self.centre).div_(self.scale)
        return features, gather(self.valid, ends, self.length)
