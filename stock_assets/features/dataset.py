"""From stored bars to a dataset: its panel and labels, and a digest of what networks read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Dataset, Features, WalkForward
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.indicators import select
from stock_assets.features.labels import targets
from stock_assets.features.panel import Panel, build_panel
from stock_assets.features.scaling import Scaler, blocks
from stock_assets.features.selection import redundant
from stock_assets.features.splits import ONE_FOLD, sessions_read, split_dataset
from stock_assets.features.windows import Split
from stock_assets.market import calendar
from stock_assets.market.adjustment import AdjustmentFactors, adjustment_factors, rebase


@dataclass(frozen=True)
class FeatureSet:
    """A panel with its labels and the factors its prices were brought to.

    Attributes
    ----------
    panel : Panel
        T sessions, N tickers, F features.
    target : ndarray of float64, shape (T, N)
        Row t is what the session after t does.
    adjustment_factors : dict of str to AdjustmentFactors
        Per ticker, the adjustment factors at the as-of session.
    bars : DataFrame
        The bars it was built from, as traded.
    represented : dict of str to str
        Features that were left out, and the kept one that each correlates with most.
    """

    panel: Panel
    target: NDArray[np.float64]
    adjustment_factors: dict[str, AdjustmentFactors]
    bars: pd.DataFrame
    represented: dict[str, str]


def build_feature_set(
    bars: pd.DataFrame,
    features: Features,
    dataset: Dataset,
    first: date,
    as_of: date,
    folds: WalkForward = ONE_FOLD,
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
    folds : WalkForward
        How history is divided, which says what the training sessions are.

    Raises
    ------
    StockAssetsError
        There is no bar in that span, or, to leave out features, too few sessions for training.
    """
    if dataset.history_sessions is not None:
        newest = calendar.sessions(first, as_of)[-dataset.history_sessions :]
        first = newest[0] if newest else first
    start, end = pd.Timestamp(first), pd.Timestamp(as_of)
    seen = bars[bars["session"].between(start, end)].reset_index(drop=True)
    if seen.empty:
        raise StockAssetsError(
            f"there is no stored bar from {first} to {as_of}",
            f"Store some first: stock-assets backfill raw_prices --from {first} --to {as_of}",
        )
    factors = adjustment_factors(seen, features.basis)
    based = rebase(seen, features.basis, factors)
    tickers = tuple(sorted(seen["ticker"].unique()))
    start = seen["session"].min().date()
    panel = build_panel(based, tickers, select(features.groups), start, as_of)
    represented = {}
    if features.correlation_threshold is not None:
        train = split_dataset(len(panel.sessions), dataset, folds).train
        read = sessions_read(train, dataset.window)
        represented = redundant(
            panel.values[read], panel.valid[read], panel.features, features.correlation_threshold
        )
    if represented:
        # Built again: without the warm-up of the features that are left out, more rows are valid,
        # and serving, which computes the kept ones alone, sees the same.
        kept = [name for name in panel.features if name not in represented]
        panel = build_panel(based, tickers, kept, start, as_of)
    labels = targets(panel.close, dataset.target)
    return FeatureSet(panel, labels, factors, seen, represented)


def scaled_digest(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    target: NDArray[np.float64],
    scalers: tuple[Scaler, Scaler],
    split: Split,
) -> str:
    """SHA-256 of all that a network can read of a panel, and of where its segments lie in it.

    These are scaled features, validity and scaled labels. Nothing is kept of the scaled numbers:
    windows are scaled when they are cut.

    Parameters
    ----------
    values, valid, target : (T, N, F), (T, N) and (T, N) arrays
        As built.
    scalers : (Scaler, Scaler)
        Of the features and of the target.
    split : Split
    """
    features, labels = scalers
    digest = hashlib.sha256(json.dumps(asdict(split)).encode())
    for rows in blocks(len(values), values[0].size):
        scaled = features.transform(values[rows])
        scaled[~valid[rows]] = 0.0
        digest.update(scaled.data)
    for array in (valid, labels.transform(target[..., None])):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
