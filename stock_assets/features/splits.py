"""Splits a dataset into train, validation and test segments, with a purge between them.

A window is identified by the position of its last session. The window that ends at position t reads
rows ``t - window + 1 ... t`` and is labelled with rows ``t + 1 ... t + horizon``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from stock_assets.config import Dataset, WalkForward
from stock_assets.core.errors import StockAssetsError
from stock_assets.market import calendar

ONE_FOLD = WalkForward()
"""A single split of the whole history."""


@dataclass(frozen=True)
class Segment:
    """Consecutive window ends, `first` and `last` included, as positions in the sessions."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def positions(self) -> NDArray[np.int64]:
        """Return all window ends, oldest first."""
        return np.arange(self.first, self.last + 1, dtype=np.int64)


@dataclass(frozen=True)
class Split:
    """Three consecutive segments; `purge` window ends are skipped between neighbours."""

    train: Segment
    validation: Segment
    test: Segment
    purge: int


def split_sessions(sessions: int, dataset: Dataset) -> Split:
    """Split the windows of a history into train, validation and test segments.

    The last label of the test segment is the last session. Between two segments
    ``horizon - 1 + embargo`` window ends are skipped, so that they share no label (purge and
    embargo: López de Prado, Advances in Financial Machine Learning, 2018, chapter 7). Inputs may
    overlap: a window of the later segment reads rows that the earlier one has read, as in serving.

    Parameters
    ----------
    sessions : int
        Length of the history.
    dataset : Dataset
        Window, horizon, embargo, and the lengths of the validation and test segments. The train
        segment takes the rest.

    Raises
    ------
    StockAssetsError
        No window end is left for training.
    """
    horizon, purge = dataset.prediction_length, purge_length(dataset)
    test_last = sessions - 1 - horizon
    test_first = test_last - dataset.test_sessions + 1
    validation_last = test_first - purge - 1
    validation_first = validation_last - dataset.validation_sessions + 1
    train = Segment(dataset.window - 1, validation_first - purge - 1)
    missing = train.first - train.last
    if missing > 0:
        raise StockAssetsError(
            f"{sessions} sessions of history are too few: window, horizon and segments need "
            f"{sessions + missing}",
            "Fetch more history, or lower dataset.window, validation_sessions or test_sessions",
        )
    return Split(
        train=train,
        validation=Segment(validation_first, validation_last),
        test=Segment(test_first, test_last),
        purge=purge,
    )


def purge_length(dataset: Dataset) -> int:
    """Return how many window ends are skipped between two segments."""
    return dataset.prediction_length - 1 + dataset.embargo_sessions


def split_validation(validation: Segment, dataset: Dataset) -> tuple[Segment, Segment]:
    """Split the validation segment into a part for model selection and one for calibration.

    Tuning and early stopping use the first part; shrinkage and intervals use the last third alone.
    The purge lies between the two.

    Raises
    ------
    StockAssetsError
        One of the parts has no window end.
    """
    calibration = Segment(validation.last - len(validation) // 3 + 1, validation.last)
    selection = Segment(validation.first, calibration.first - purge_length(dataset) - 1)
    if calibration.first > calibration.last or selection.first > selection.last:
        raise StockAssetsError(
            f"{len(validation)} validation sessions are too few: the last third is for calibration "
            f"and {purge_length(dataset)} before it are purged",
            "Raise dataset.validation_sessions",
        )
    return selection, calibration


def fold_splits(sessions: int, dataset: Dataset, folds: WalkForward) -> list[Split]:
    """Split a history once per walk-forward fold.

    Each fold is :func:`split_sessions` of the sessions up to its end. The last fold ends with the
    last session. Each earlier one ends one test segment earlier, so that the test segments are
    adjacent and disjoint (rolling-origin evaluation: Tashman 2000, "Out-of-sample tests of
    forecasting accuracy", Int. J. Forecasting 16).

    Parameters
    ----------
    sessions : int
        Length of the history.
    dataset : Dataset
        See :func:`split_sessions`.
    folds : WalkForward
        Number of folds. With ``expanding`` training a train segment starts with history; with
        ``rolling`` it is as long as that of the first fold.

    Returns
    -------
    list of Split
        Oldest first. The last is the split of the dataset itself.

    Raises
    ------
    StockAssetsError
        No window end is left for training in the first fold.
    """
    ends = range(sessions - (folds.folds - 1) * dataset.test_sessions, sessions + 1)
    try:
        splits = [split_sessions(end, dataset) for end in ends[:: dataset.test_sessions]]
    except StockAssetsError as error:
        if folds.folds == 1:
            raise
        raise StockAssetsError(
            f"the first of {folds.folds} folds has no session to train on: {error.problem}",
            "Lower walk_forward.folds, or fetch more history",
        ) from None
    if folds.training == "expanding":
        return splits
    length = len(splits[0].train)
    return [
        replace(split, train=Segment(split.train.last - length + 1, split.train.last))
        for split in splits
    ]


def split_dataset(sessions: int, dataset: Dataset, folds: WalkForward = ONE_FOLD) -> Split:
    """Return the split of the dataset itself: the last of :func:`fold_splits`."""
    return fold_splits(sessions, dataset, folds)[-1]


def sessions_read(segment: Segment, window: int) -> slice:
    """Return the positions of all sessions that the windows of a segment read."""
    return slice(segment.first - window + 1, segment.last + 1)


def segment_sessions(
    split: Split, first: date, as_of: date
) -> dict[str, tuple[Segment, date, date]]:
    """Return each segment by name, with the sessions of its first and last window ends.

    Parameters
    ----------
    split : Split
    first, as_of : date
        First and last session of the history.
    """
    days = calendar.sessions(first, as_of)
    named = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        name: (segment, days[segment.first], days[segment.last]) for name, segment in named.items()
    }
