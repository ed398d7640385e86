"""Detectors of knowledge that a dataset must not have: each builds it again with less to see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stock_assets.config import Dataset, Features, Target, WalkForward
from stock_assets.features.dataset import FeatureSet
from stock_assets.features.division import fit_scalers, split_dataset
from stock_assets.features.indicators import select
from stock_assets.features.panel import build_panel
from stock_assets.features.scaling import blocks
from stock_assets.features.selection import redundant
from stock_assets.market.adjustment import rebase


def changed_by_the_future(
    built: FeatureSet, features: Features, held_back: int
) -> NDArray[np.bool_]:
    """Build the panel again with later sessions hidden and compare, bit for bit.

    Hidden are the newest `held_back` sessions, and in a second turn all after the first one with a
    valid row: a warm-up that was filled from behind shows there alone.

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
    panel = built.panel
    changed = np.zeros(len(panel.features), dtype=np.bool_)
    first_valid = int(panel.valid.any(axis=1).argmax())
    for count in {first_valid + 1, max(len(panel.sessions) - held_back, 1)}:
        start, end = panel.sessions[0], panel.sessions[count - 1]
        seen = built.bars[built.bars["session"] <= end].reset_index(drop=True)
        bars = rebase(seen, features.basis, built.anchors)
        for tickers in blocks(len(panel.tickers), count * len(panel.features)):
            names = panel.tickers[tickers]
            again = build_panel(bars, names, panel.features, start.date(), end.date())
            before = panel.values[:count, tickers].view(np.uint32)
            changed |= (before != again.values.view(np.uint32)).any(axis=(0, 1))
    return changed


def wrong_labels(built: FeatureSet, target: Target) -> NDArray[np.bool_]:
    """Turn labels back into closes and compare with the closes they stand for.

    Returns
    -------
    ndarray of bool, shape (T, N)
        Where a label is not that of the close one session later, or stands beside a close
        that is missing or later than the last session.
    """
    close = built.panel.close
    implied = close * np.exp(built.target) if target == "log_return" else built.target
    later = np.full_like(close, np.nan)
    later[:-1] = close[1:]
    later[np.isnan(close)] = np.nan
    return ~np.isclose(implied, later, rtol=1e-9, atol=0.0, equal_nan=True)


def scalers_know_more_than_training(
    built: FeatureSet, dataset: Dataset, folds: WalkForward
) -> bool:
    """Fit the scalers with and without the sessions after training, and compare every number."""
    panel = built.panel
    train = split_dataset(len(panel.sessions), dataset, folds).train
    stop = train.last + 1
    whole = fit_scalers(panel.values, panel.valid, built.target, train, dataset)
    alone = fit_scalers(
        panel.values[:stop], panel.valid[:stop], built.target[:stop], train, dataset
    )
    return [scaler.to_dict() for scaler in whole] != [scaler.to_dict() for scaler in alone]


def selection_knows_more_than_training(
    built: FeatureSet, features: Features, dataset: Dataset
) -> bool:
    """Choose among the features again with no bar after training, and compare what is left out."""
    if features.correlation_threshold is None:
        return False
    sessions = built.panel.sessions
    end = sessions[split_dataset(len(sessions), dataset).train.last]
    seen = built.bars[built.bars["session"] <= end].reset_index(drop=True)
    bars, names = rebase(seen, features.basis, built.anchors), select(features.groups)
    again = build_panel(bars, built.panel.tickers, names, sessions[0].date(), end.date())
    return built.represented != redundant(
        again.values, again.valid, again.features, features.correlation_threshold
    )
