"""From stored bars to a dataset: panel, labels, stretches of time and scalers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Dataset, Features
from stock_assets.errors import StockAssetsError
from stock_assets.features.indicators import select
from stock_assets.features.panel import Panel, build_panel, targets
from stock_assets.features.scaling import Scaler, blocks, fit_scaler
from stock_assets.features.selection import redundant
from stock_assets.features.windows import Split, Stretch, split_sessions
from stock_assets.market import calendar
from stock_assets.market.adjustment import Anchor, anchors, rebase

HORIZON = 1
"""Sessions between the end of a window and its label."""


@dataclass(frozen=True)
class FeatureSet:
    """A panel with its labels and the factors its prices were brought to.

    Attributes
    ----------
    panel : Panel
        T sessions, N tickers, F features.
    target : ndarray of float64, shape (T, N)
        Row t is the label of the window that ends at t.
    anchors : dict of str to Anchor
        Per ticker, the adjustment factors at the as-of session.
    bars : DataFrame
        The bars it was built from, as traded.
    represented : dict of str to str
        Features that were left out, and the kept one that each correlates with most.
    """

    panel: Panel
    target: NDArray[np.float64]
    anchors: dict[str, Anchor]
    bars: pd.DataFrame
    represented: dict[str, str]


def build_feature_set(
    bars: pd.DataFrame, features: Features, dataset: Dataset, first: date, as_of: date
) -> FeatureSet:
    """Build the panel and the labels that can be known at the as-of session.

    Bars after `as_of` are dropped before anything is computed. Tickers without a bar by then are
    not part of the dataset. Where there is a ``features.correlation_threshold``, features are left
    out by the training sessions of all tickers (:func:`stock_assets.features.selection.redundant`).

    Parameters
    ----------
    bars : DataFrame
        Bars as traded.
    features, dataset : Features, Dataset
        What to compute, and over how much history.
    first : date
        Where history starts, unless ``dataset.history_sessions`` starts it later.
    as_of : date
        The newest session that may be seen.

    Raises
    ------
    StockAssetsError
        There is no bar in that span, or, to leave out features, too few sessions for training.
    """
    if dataset.history_sessions is not None:
        first = max(first, calendar.previous_session(as_of, dataset.history_sessions - 1))
    start, end = pd.Timestamp(first), pd.Timestamp(as_of)
    seen = bars[bars["session"].between(start, end)].reset_index(drop=True)
    if seen.empty:
        raise StockAssetsError(
            f"there is no stored bar from {first} to {as_of}",
            f"Store some first: stock-assets backfill raw_prices --from {first} --to {as_of}",
        )
    factors = anchors(seen, features.basis)
    based = rebase(seen, features.basis, factors)
    tickers = tuple(sorted(seen["ticker"].unique()))
    start = seen["session"].min().date()
    panel = build_panel(based, tickers, select(features.groups), start, as_of)
    represented = {}
    if features.correlation_threshold is not None:
        stop = split_dataset(len(panel.sessions), dataset).train.last + 1
        represented = redundant(
            panel.values[:stop], panel.valid[:stop], panel.features, features.correlation_threshold
        )
    if represented:
        # Built again: without the warm-up of the features that are left out, more rows are valid,
        # and serving, which computes the kept ones alone, sees the same.
        kept = [name for name in panel.features if name not in represented]
        panel = build_panel(based, tickers, kept, start, as_of)
    labels = targets(panel.close, dataset.target, HORIZON)
    return FeatureSet(panel, labels, factors, seen, represented)


def split_dataset(sessions: int, dataset: Dataset) -> Split:
    """Cut the sessions of a panel into training, validation and test stretches."""
    return split_sessions(
        sessions,
        window=dataset.window,
        horizon=HORIZON,
        validation=dataset.validation_sessions,
        test=dataset.test_sessions,
        embargo=dataset.embargo_sessions,
    )


def fit_scalers(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    target: NDArray[np.float64],
    split: Split,
    dataset: Dataset,
) -> tuple[Scaler, Scaler]:
    """Fit the feature and the target scaler on the training stretch alone.

    Returns of the next session are scaled about zero, so that a scaled forecast of 0 is
    persistence; price levels are scaled as the features are.
    """
    stop = split.train.last + 1
    features = fit_scaler(values[:stop], valid[:stop], dataset.scaler)
    labels, known = target[:stop, :, None], np.isfinite(target[:stop])
    kind = "zero_mean" if dataset.target == "log_return" else dataset.scaler
    return features, fit_scaler(labels, known & valid[:stop], kind)


def scaled_values(
    values: NDArray[np.float32], valid: NDArray[np.bool_], scaler: Scaler
) -> NDArray[np.float32]:
    """Scale features, with zeros where they are not valid; shape (T, N, F)."""
    scaled = np.zeros(values.shape, dtype=np.float32)
    for rows in blocks(len(values), values[0].size):
        np.copyto(scaled[rows], scaler.transform(values[rows]), where=valid[rows, :, None])
    return scaled


def scaled_arrays(
    arrays: Mapping[str, NDArray[np.generic]], features: Scaler, target: Scaler
) -> dict[str, NDArray[np.generic]]:
    """Scale the ``values`` and ``target`` of a stored panel; ``valid`` stays as it is."""
    labels = np.asarray(arrays["target"], dtype=np.float64)[..., None]
    valid = np.asarray(arrays["valid"], dtype=np.bool_)
    values = np.asarray(arrays["values"], dtype=np.float32)
    return {
        "values": scaled_values(values, valid, features),
        "valid": valid,
        "target": target.transform(labels)[..., 0].astype(np.float32),
    }


def stretch_sessions(
    split: Split, first: date, as_of: date
) -> dict[str, tuple[Stretch, date, date]]:
    """Name the stretches, with the sessions at which their first and last windows end."""
    days = calendar.sessions(first, as_of)
    named = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        name: (stretch, days[stretch.first], days[stretch.last]) for name, stretch in named.items()
    }
