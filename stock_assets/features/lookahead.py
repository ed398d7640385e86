"""Detectors of knowledge that a dataset must not have: each builds it again with less to see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Dataset, Features, Target, WalkForward
from stock_assets.features.dataset import FeatureSet
from stock_assets.features.indicators import select
from stock_assets.features.panel import Panel, build_panel
from stock_assets.features.scaling import Scaler, blocks
from stock_assets.features.selection import redundant
from stock_assets.features.splits import fit_scalers, sessions_read, split_dataset
from stock_assets.features.windows import Segment
from stock_assets.market.adjustment import rebase


def find_lookahead(built: FeatureSet, features: Features, held_back: int) -> list[str]:
    """Build the panel again with later sessions hidden and compare, bit for bit.

    What was filled or masked by what came later shows where something is missing, so each ticker is
    examined up to several sessions (`_last_seen`), each time with all that came after it hidden.

    Parameters
    ----------
    built : FeatureSet
        The panel to examine.
    features : Features
        The parameters it was built with.
    held_back : int
        How many of the newest sessions to hide in one turn; all but the first if there are not so
        many.

    Returns
    -------
    list of str
        Features with a value that hidden sessions changed, and ``valid`` and ``close`` where they
        changed these; empty where nothing looks ahead.
    """
    panel = built.panel
    changed = np.zeros(len(panel.features) + 2, dtype=np.bool_)
    for seen in _last_seen(built, held_back):
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


def _last_seen(built: FeatureSet, held_back: int) -> Iterator[NDArray[np.intp]]:
    """Give, turn by turn, how many sessions of each ticker to examine, (N,); 0 is none of them.

    These are all but the newest; those before its first bar; those up to its first valid row, where
    a filled warm-up shows; those up to the end of its newest hole, where a filled hole shows; and
    those up to its last bar, if it has gone since.
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
    """Which features, and whether validity and closes, differ in the rows seen of each ticker."""
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
    fitted: tuple[Scaler, Scaler],
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    target: NDArray[np.float64],
    train: Segment,
    dataset: Dataset,
) -> bool:
    """Fit the scalers again with no session after training, and compare every number."""
    stop = train.last + 1
    alone = fit_scalers(values[:stop], valid[:stop], target[:stop], train, dataset)
    return [scaler.to_dict() for scaler in fitted] != [scaler.to_dict() for scaler in alone]


def selection_knows_more_than_training(
    built: FeatureSet, features: Features, dataset: Dataset, folds: WalkForward
) -> bool:
    """Choose among the features again with no bar after training, and compare what is left out."""
    if features.correlation_threshold is None:
        return False
    sessions = built.panel.sessions
    read = sessions_read(split_dataset(len(sessions), dataset, folds).train, dataset.window)
    end = sessions[read.stop - 1]
    seen = built.bars[built.bars["session"] <= end].reset_index(drop=True)
    bars, names = rebase(seen, features.basis, built.adjustment_factors), select(features.groups)
    again = build_panel(bars, built.panel.tickers, names, sessions[0].date(), end.date())
    return built.represented != redundant(
        again.values[read], again.valid[read], again.features, features.correlation_threshold
    )
