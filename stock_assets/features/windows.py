"""Windows over the panel: which sessions belong to which stretch, and cutting them when needed.

A window is named by its end. The window that ends at position t reads rows
``t - window + 1 ... t`` and is labelled with rows ``t + 1 ... t + horizon``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stock_assets.errors import StockAssetsError


@dataclass(frozen=True)
class Stretch:
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
    """Three stretches of time in order, with `purge` window ends left out between neighbours."""

    train: Stretch
    validation: Stretch
    test: Stretch
    purge: int


def split_sessions(
    count: int, *, window: int, horizon: int, validation: int, test: int, embargo: int
) -> Split:
    """Divide the windows of `count` sessions into training, validation and test.

    The test stretch is the newest: its last label is the last session. Between two stretches
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
        Window ends in these stretches; training has all that come before.
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
        train=Stretch(train_first, train_last),
        validation=Stretch(validation_first, validation_last),
        test=Stretch(test_first, test_last),
        purge=purge,
    )


def usable(
    valid: NDArray[np.bool_],
    target: NDArray[np.floating[Any]] | None,
    ends: NDArray[np.int64],
    window: int,
    coverage: float = 0.9,
) -> NDArray[np.bool_]:
    """Which tickers a window says enough about to learn from it, or to forecast.

    Parameters
    ----------
    valid : (T, N) bool
        Which rows of the panel hold features.
    target : (T, N) float or None
        Labels by window end, NaN where missing; None when forecasting, where there is none yet.
    ends : (B,) int64
        Window ends, each at least ``window - 1``.
    window : int
        Sessions a window reads.
    coverage : float
        Least share of valid rows in the window.

    Returns
    -------
    (B, N) bool
        The last row is valid, enough of the window is, and the label, if labels are given, exists.

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
    enough = valid[ends] & (share >= coverage)
    return enough if target is None else enough & np.isfinite(target[ends])


def gather(values: torch.Tensor, ends: torch.Tensor, window: int) -> torch.Tensor:
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
        Oldest session first, in the dtype of `values`; contiguous, a copy.

    Raises
    ------
    IndexError
        A window starts before the first row or ends after the last.
    """
    offsets = torch.arange(1 - window, 1, device=ends.device)
    rows = ends.unsqueeze(1) + offsets
    picked = values.index_select(0, rows.flatten())
    return picked.view(*rows.shape, *values.shape[1:])
