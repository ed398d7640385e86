"""What a feature is: a name, a formula, what it reads and how long it warms up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stock_assets.config import FeatureGroup
from stock_assets.features.formulas import FloatArray

INPUT_COLUMNS = ("open", "high", "low", "close", "volume", "dividends", "stock_splits")


@dataclass(frozen=True)
class Feature:
    """One number per ticker and session.

    Attributes
    ----------
    name : str
        Column name, as models and tables know it.
    group : FeatureGroup
        What ``features.groups`` of params.yaml selects by.
    formula : callable
        Takes the input columns, then the window if there is one; returns as many rows.
    inputs : tuple of str
        Bar columns the formula reads.
    window : int or None
        The period of the definition, in sessions; None where the definition has none.
    warm_up : int
        Leading rows without a value: exactly these are NaN, and no later one is for sound bars.
    depends_on_start : bool
        True for recursive averages, whose memory of the first rows fades but never ends. The others
        are functions of the newest ``warm_up + 1`` rows alone, bit for bit.
    scale_free : bool
        True if multiplying all prices by one number, and all volumes by another, changes nothing:
        such a feature is not moved by a later split or dividend, and compares between tickers.
    """

    name: str
    group: FeatureGroup
    formula: Callable[..., FloatArray]
    inputs: tuple[str, ...]
    window: int | None = None
    warm_up: int = 0
    depends_on_start: bool = False
    scale_free: bool = False

    def compute(self, bars: Mapping[str, FloatArray]) -> FloatArray:
        """Evaluate the feature on one ticker's bars.

        Parameters
        ----------
        bars : mapping of str to (T,) float64
            ``open high low close volume dividends stock_splits`` of consecutive bars in the chosen
            basis, oldest first, all of one length.

        Returns
        -------
        (T,) float64
            NaN in the first ``warm_up`` rows. Row t depends on no later row, bit for bit.
        """
        period = () if self.window is None else (self.window,)
        values = self.formula(*(bars[column] for column in self.inputs), *period)
        values[: self.warm_up] = np.nan
        return values
