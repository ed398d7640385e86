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
from stock_assets.features.scaling import Scaler, fit_scaler
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
    """

    panel: Panel
    target: NDArray[np.float64]
    anchors: dict[str, Anchor]
    bars: pd.DataFrame


def build_feature_set(
    bars: pd.DataFrame, features: Features, dataset: Dataset, first: date, as_of: date
) -> FeatureSet:
    """Build the panel and the labels that can be known at the as-of session.

    Bars after `as_of` are dropped before anything is computed. Tickers without a bar by then are
    not part of the dataset.

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
        There is no bar in that span.
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
    panel = build_panel(
        rebase(seen, features.basis, factors),
        tuple(sorted(seen["ticker"].unique())),
        select(features.groups),
        seen["session"].min().date(),
        as_of,
    )
    return FeatureSet(panel, targets(panel.close, dataset.target, HORIZON), factors, seen)


def changed_by_the_future(
    built: FeatureSet, features: Features, held_back: int
) -> NDArray[np.bool_]:
    """Build the panel again without its newest sessions and compare, bit for bit.

    Parameters
    ----------
    built : FeatureSet
        The panel to examine.
    features : Features
        The parameters it was built with.
    held_back : int
        How many of the newest sessions to hide; all but the first if there are not so many.

    Returns
    -------
    ndarray of bool, shape (F,)
        Features with a value that hidden sessions changed; all False where nothing looks ahead.
    """
    sessions = built.panel.sessions
    start, end = sessions[0], sessions[-1 - min(held_back, len(sessions) - 1)]
    seen = built.bars[built.bars["session"] <= end].reset_index(drop=True)
    again = build_panel(
        rebase(seen, features.basis, built.anchors),
        built.panel.tickers,
        select(features.groups),
        start.date(),
        end.date(),
    )
    before = built.panel.values[: len(again.sessions)].view(np.uint32)
    differs = before != again.values.view(np.uint32)
    return np.asarray(differs.any(axis=(0, 1)))


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
    scaled = scaler.transform(values)
    return np.where(valid[..., None], scaled, np.float32(0)).astype(np.float32)


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
