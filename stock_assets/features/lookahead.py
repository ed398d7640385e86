"""Detects look-ahead: each check recomputes part of a dataset without later sessions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Dataset, Features, Target, WalkForward
from stock_assets.features.dataset import FeatureSet
from stock_assets.features.indicators import chosen_features
from stock_assets.features.panel import Panel, build_panel
from stock_assets.features.scaling import Scaler, blocks, fit_scalers
from stock_assets.features.selection import find_redundant_features
from stock_assets.features.splits import Segment, sessions_read, split_dataset
from stock_assets.market.adjustment import rebase


def find_lookahead(built: FeatureSet, features: Features, held_back: int) -> list[str]:
    """Rebuild the panel without its later sessions and compare it bit for bit.

    Values filled or masked with later data show up next to gaps, so each ticker is rebuilt up to
    several sessions (see `_cutoffs`).

    Parameters
    ----------
    built : FeatureSet
        The panel to check.
    features : Features
        The parameters it was built with.
    held_back : int
        Number of newest sessions to hide; at most all but the first.

    Returns
    -------
    list of str
        Features whose values depend on later sessions, and ``valid`` and ``close`` if these do.
    """
    panel = built.panel
    changed = np.zeros(len(panel.features) + 2, dtype=np.bool_)
    for seen in _cutoffs(built, held_back):
        some = np.flatnonzero(seen)
        if not some.size:
            continue
        end = panel.sessions[seen.max() - 1]
        newest = panel.sessions[seen[some] - 1]
        own = pd.Series(newest, [panel.tickers[place] for place in some])
        known = built.bars["session"] <= built.bars["ticker"].map(own)
        bars = rebase(
            built.bars[known].reset_index(drop=True), features.basis, built.adjustment_factors
        )
        for part in blocks(len(some), int(seen.max()) * len(panel.features)):
            names = [panel.tickers[place] for place in some[part]]
            again = build_panel(bars, names, panel.features, panel.sessions[0].date(), end.date())
            changed |= _differs(panel, again, some[part], seen[some[part]])
    names = [*panel.features, "valid", "close"]
    return [name for name, one in zip(names, changed, strict=True) if one]


def _cutoffs(built: FeatureSet, held_back: int) -> Iterator[NDArray[np.intp]]:
    """Yield numbers of leading sessions to rebuild per ticker, (N,); 0 skips the ticker.

    In turn: all but the newest sessions; up to the ticker's first bar; up to its first valid row,
    which reveals a filled warm-up; up to the end of its newest gap, which reveals a filled gap; and
    up to its last bar, if it is no longer traded.
    """
    panel, count = built.panel, len(built.panel.sessions)
    bars = np.zeros(panel.valid.shape, dtype=np.bool_)
    rows = panel.sessions.get_indexer(pd.DatetimeIndex(built.bars["session"]))
    bars[rows, pd.Index(panel.tickers).get_indexer(pd.Index(built.bars["ticker"]))] = True
    first, last = bars.argmax(axis=0), count - 1 - bars[::-1].argmax(axis=0)
    yield np.full(len(panel.tickers), max(count - held_back, 1))
    yield first
    yield np.where(panel.valid.any(axis=0), panel.valid.argmax(axis=0) + 1, 0)
    places = np.arange(count)[:, np.newaxis]
    holes = ~bars & (places > first) & (places < last)
    yield np.where(holes.any(axis=0), count - holes[::-1].argmax(axis=0), 0)
    yield np.where(last < count - 1, last + 1, 0)


def _differs(
    panel: Panel, again: Panel, tickers: NDArray[np.intp], seen: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Flag features, then validity and closes, that differ in the leading rows of each ticker."""
    count = len(again.sessions)
    rows = np.arange(count)[:, np.newaxis] < seen
    before = panel.values[:count, tickers].view(np.uint32)
    values = before != again.values.view(np.uint32)
    valid = panel.valid[:count, tickers] != again.valid
    close = panel.close[:count, tickers].view(np.uint64) != again.close.view(np.uint64)
    return np.append(
        (values & rows[..., np.newaxis]).any(axis=(0, 1)),
        [(valid & rows).any(), (close & rows).any()],
    )


def find_wrong_labels(built: FeatureSet, target: Target) -> NDArray[np.bool_]:
    """Convert labels to closes and compare them with the next session's closes.

    Returns
    -------
    (T, N) bool
        True where a label disagrees with the close one session later, or exists although one of
        the two closes is missing.
    """
    close = built.panel.close
    implied = close * np.exp(built.target) if target == "log_return" else built.target
    later = np.full_like(close, np.nan)
    later[:-1] = close[1:]
    later[np.isnan(close)] = np.nan
    return ~np.isclose(implied, later, rtol=1e-9, atol=0.0, equal_nan=True)


def has_scaler_leak(
    fitted: tuple[Scaler, Scaler],
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    target: NDArray[np.float64],
    train: Segment,
    dataset: Dataset,
) -> bool:
    """Refit the scalers without sessions after the train segment and compare every number."""
    stop = train.last + 1
    expected = fit_scalers(values[:stop], valid[:stop], target[:stop], train, dataset)
    return [scaler.to_dict() for scaler in fitted] != [scaler.to_dict() for scaler in expected]


def has_selection_leak(
    built: FeatureSet, features: Features, dataset: Dataset, folds: WalkForward
) -> bool:
    """Repeat the feature selection without bars after the train segment and compare it."""
    if features.correlation_threshold is None:
        return False
    sessions = built.panel.sessions
    read = sessions_read(split_dataset(len(sessions), dataset, folds).train, dataset.window)
    end = sessions[read.stop - 1]
    seen = built.bars[built.bars["session"] <= end].reset_index(drop=True)
    bars, names = rebase(seen, features.basis, built.adjustment_factors), chosen_features(features)
    again = build_panel(bars, built.panel.tickers, names, sessions[0].date(), end.date())
    return built.dropped_features != find_redundant_features(
        again.values[read], again.valid[read], again.features, features.correlation_threshold
    )
