"""Builds a dataset from bars: its panel and labels, and a digest of the network inputs."""

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
from stock_assets.features.indicators import chosen_features
from stock_assets.features.labels import session_labels
from stock_assets.features.panel import Panel, build_panel
from stock_assets.features.scaling import Scaler, blocks
from stock_assets.features.selection import find_redundant_features
from stock_assets.features.splits import ONE_FOLD, Split, sessions_read, split_dataset
from stock_assets.market import calendar
from stock_assets.market.adjustment import AdjustmentFactors, adjustment_factors, rebase


@dataclass(frozen=True)
class FeatureSet:
    """A panel with its labels and adjustment factors.

    Attributes
    ----------
    panel : Panel
        T sessions, N tickers, F features.
    target : ndarray of float64, shape (T, N)
        Row t is the label of the session after t.
    adjustment_factors : dict of str to AdjustmentFactors
        Per ticker, the adjustment factors at the as-of session.
    bars : DataFrame
        The bars it was built from, as traded.
    dropped_features : dict of str to str
        Redundant features, and the kept feature that each is most correlated with.
    """

    panel: Panel
    target: NDArray[np.float64]
    adjustment_factors: dict[str, AdjustmentFactors]
    bars: pd.DataFrame
    dropped_features: dict[str, str]


def build_feature_set(
    bars: pd.DataFrame,
    features: Features,
    dataset: Dataset,
    first: date,
    as_of: date,
    folds: WalkForward = ONE_FOLD,
) -> FeatureSet:
    """Build the panel and the labels that are known at the as-of session.

    Bars after `as_of` are dropped before anything is computed. Tickers without a bar by then are
    not part of the dataset. With a ``features.correlation_threshold``, redundant features of the
    train segment are dropped (:func:`stock_assets.features.selection.find_redundant_features`).

    Parameters
    ----------
    bars : DataFrame
        Bars as traded.
    features, dataset : Features, Dataset
    first : date
        First session, unless ``dataset.history_sessions`` starts history later.
    as_of : date
        The newest session to use.
    folds : WalkForward
        Walk-forward folds, which determine the train segment.

    Raises
    ------
    StockAssetsError
        There is no bar in that span, or too little history for a train segment.
    """
    if dataset.history_sessions is not None:
        newest = calendar.sessions(first, as_of)[-dataset.history_sessions :]
        first = newest[0] if newest else first
    start, end = pd.Timestamp(first), pd.Timestamp(as_of)
    seen = bars[bars["session"].between(start, end)].reset_index(drop=True)
    if seen.empty:
        raise StockAssetsError(
            f"there is no stored bar from {first} to {as_of}",
            f"Fetch them: stock-assets backfill raw_prices --from {first} --to {as_of}",
        )
    factors = adjustment_factors(seen, features.basis)
    based = rebase(seen, features.basis, factors)
    tickers = tuple(sorted(seen["ticker"].unique()))
    start = seen["session"].min().date()
    panel = build_panel(based, tickers, chosen_features(features), start, as_of)
    dropped: dict[str, str] = {}
    if features.correlation_threshold is not None:
        train = split_dataset(len(panel.sessions), dataset, folds).train
        read = sessions_read(train, dataset.window)
        dropped = find_redundant_features(
            panel.values[read], panel.valid[read], panel.features, features.correlation_threshold
        )
    if dropped:
        # Rebuild: without the warm-up of the dropped features more rows are valid, as in serving,
        # which computes the kept features only.
        kept = [name for name in panel.features if name not in dropped]
        panel = build_panel(based, tickers, kept, start, as_of)
    labels = session_labels(panel.close, dataset.target)
    return FeatureSet(panel, labels, factors, seen, dropped)


def scaled_digest(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    target: NDArray[np.float64],
    scalers: tuple[Scaler, Scaler],
    split: Split,
) -> str:
    """Compute the SHA-256 of the network inputs: scaled features, validity, labels and segments.

    Scaled values are not stored; windows are scaled when they are cut.

    Parameters
    ----------
    values, valid, target : (T, N, F), (T, N) and (T, N) arrays
        Panel and labels, not scaled.
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
