"""How the sessions of a dataset are divided, and what is fitted to those of training alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from stock_assets.config import Dataset, WalkForward
from stock_assets.evaluation.drift import BINS, Reference, count_rows, reference_edges, usual_level
from stock_assets.features.scaling import Scaler, blocks, fit_scaler
from stock_assets.features.windows import Segment, Split, walk_forward
from stock_assets.market import calendar

ONE_FOLD = WalkForward()
"""History divided once."""


def split_dataset(sessions: int, dataset: Dataset, folds: WalkForward = ONE_FOLD) -> Split:
    """Cut the sessions of a panel into training, validation and test segments.

    With rolling folds training is as long as theirs, so that what is tuned is what is trained.
    """
    return fold_splits(sessions, dataset, folds)[-1]


def fold_splits(sessions: int, dataset: Dataset, folds: WalkForward) -> list[Split]:
    """Cut the sessions of a panel once per fold, oldest first; the last is the dataset's own."""
    return walk_forward(
        sessions,
        folds=folds.folds,
        training=folds.training,
        window=dataset.window,
        horizon=dataset.prediction_length,
        validation=dataset.validation_sessions,
        test=dataset.test_sessions,
        embargo=dataset.embargo_sessions,
    )


def sessions_read(segment: Segment, window: int) -> slice:
    """Sessions that the windows of a segment read."""
    return slice(segment.first - window + 1, segment.last + 1)


def segment_sessions(
    split: Split, first: date, as_of: date
) -> dict[str, tuple[Segment, date, date]]:
    """Name the segments, with the sessions at which their first and last windows end."""
    days = calendar.sessions(first, as_of)
    named = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        name: (segment, days[segment.first], days[segment.last]) for name, segment in named.items()
    }


def fit_scalers(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    target: NDArray[np.float64],
    train: Segment,
    dataset: Dataset,
) -> tuple[Scaler, Scaler]:
    """Fit the feature and the target scaler to the sessions that training windows read, no others.

    Returns of the next session are scaled about zero, so that a scaled forecast of 0 is
    persistence; price levels are scaled as the features are.
    """
    seen = sessions_read(train, dataset.window)
    features = fit_scaler(values[seen], valid[seen], dataset.scaler)
    labels, known = target[seen, :, None], np.isfinite(target[seen])
    kind = "zero_mean" if dataset.target == "log_return" else dataset.scaler
    return features, fit_scaler(labels, known & valid[seen], kind)


def fit_reference(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    scaler: Scaler,
    train: Segment,
    window: int,
    sessions: int,
) -> Reference:
    """Say how scaled features are distributed in the sessions that training windows read.

    Parameters
    ----------
    values, valid : (T, N, F) and (T, N) arrays
        Of the panel; the valid rows of all tickers are pooled.
    scaler : Scaler
        Fitted to the same sessions.
    train : Segment
    window : int
        Sessions that a window of the network reads.
    sessions : int
        Sessions whose inputs will be held against those of training.
    """
    seen = sessions_read(train, window)
    values, valid = values[seen], valid[seen]
    edges = np.empty((values.shape[2], BINS - 1))
    counts = np.empty((len(values), values.shape[2], BINS), dtype=np.int64)
    for columns in blocks(values.shape[2], valid.size):
        own = replace(scaler, centre=scaler.centre[:, columns], scale=scaler.scale[:, columns])
        rows = own.transform(values[:, :, columns])
        edges[columns] = reference_edges(rows[valid])
        rows[~valid] = np.nan
        counts[:, columns] = count_rows(rows, edges[columns])
    return Reference(edges, counts.sum(axis=0), sessions, usual_level(counts, sessions))
