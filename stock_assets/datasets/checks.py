"""Checks of a dataset: complete values, nothing from the future, scalers of training alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stock_assets.config import Params
from stock_assets.datasets.build import FittedScalers, recorded_params
from stock_assets.features.dataset import FeatureSet
from stock_assets.features.labels import session_labels
from stock_assets.features.lookahead import (
    find_lookahead,
    find_wrong_labels,
    has_scaler_leak,
    has_selection_leak,
)
from stock_assets.features.splits import split_dataset, split_validation
from stock_assets.features.windows import usable_windows
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import PanelRecord

HELD_BACK_SESSIONS = 20
"""Newest sessions that the look-ahead check leaves out when it rebuilds a panel."""


@dataclass(frozen=True)
class Completeness:
    """Whether valid values are finite, and the training windows of each ticker."""

    finite: bool
    training_windows: dict[str, int]

    @property
    def untrained(self) -> list[str]:
        """Tickers without a training window: they are too young to learn from."""
        return [ticker for ticker, count in self.training_windows.items() if count == 0]

    @property
    def passed(self) -> bool:
        """Whether values are finite and some ticker can be learned from."""
        return self.finite and len(self.untrained) < len(self.training_windows)

    @property
    def message(self) -> str:
        """Describe the result."""
        found = ["values are finite" if self.finite else "a valid value is not finite"]
        if self.untrained:
            found.append(f"without a training window: {', '.join(self.untrained)}")
        return "; ".join(found)


@dataclass(frozen=True)
class LookAhead:
    """Features that use later sessions, wrong labels, and whether the selection looks ahead."""

    features: list[str]
    labels: int
    selection: bool

    @property
    def passed(self) -> bool:
        """Whether nothing uses a later session."""
        return not (self.features or self.labels or self.selection)

    @property
    def message(self) -> str:
        """Describe the result."""
        found = [
            *([f"these look ahead: {', '.join(self.features)}"] if self.features else []),
            *([f"{self.labels} labels are not the next close"] if self.labels else []),
            *(["the selection of features uses sessions after training"] if self.selection else []),
        ]
        return "; ".join(found) or "no feature, mask, close, label or selection looks ahead"


def check_completeness(built: FeatureSet, params: Params) -> Completeness:
    """Check that valid values are finite, and count training windows per ticker.

    Raises
    ------
    StockAssetsError
        History, or the validation segment, is too short to be split.
    """
    panel = built.panel
    finite = bool(np.isfinite(panel.values[panel.valid]).all())
    split = split_dataset(len(panel.sessions), params.dataset, params.walk_forward)
    split_validation(split.validation, params.dataset)  # training needs it, much later
    train = split.train.positions()
    windows = usable_windows(panel.valid, train, params.dataset.window).sum(axis=0)
    return Completeness(finite, dict(zip(panel.tickers, windows.tolist(), strict=True)))


def check_look_ahead(built: FeatureSet, params: Params) -> LookAhead:
    """Rebuild a panel without its newest sessions, and compare every earlier value with it."""
    return LookAhead(
        features=find_lookahead(built, params.features, HELD_BACK_SESSIONS),
        labels=int(find_wrong_labels(built, params.dataset.target).sum()),
        selection=has_selection_leak(built, params.features, params.dataset, params.walk_forward),
    )


def scalers_look_ahead(record: PanelRecord, arrays: ArrayStore, fitted: FittedScalers) -> bool:
    """Return whether scalers change when fitted without the sessions after training."""
    dataset, panel = recorded_params(record).dataset, arrays.read_tensors(record.location)
    return has_scaler_leak(
        (fitted.features, fitted.target),
        panel["values"],
        panel["valid"],
        session_labels(panel["close"], dataset.target),
        fitted.split.train,
        dataset,
    )
