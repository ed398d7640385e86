"""The declaration of a feature: name, formula, inputs and warm-up.

A feature of another package is a function with the decorator `custom_feature`, see
``docs/extending.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Literal

import numpy as np

from stock_assets.config import FeatureGroup
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.formulas import FloatArray

INPUT_COLUMNS = ("open", "high", "low", "close", "volume", "dividends", "stock_splits")


@dataclass(frozen=True)
class Feature:
    """One number per ticker and session.

    Attributes
    ----------
    name : str
        Column name in panels, models and tables.
    group : FeatureGroup or "custom"
        The value of ``features.groups`` in params.yaml that selects it; ``custom`` if
        ``features.custom`` names it.
    formula : callable
        Takes the input columns, then the window if there is one; returns an array as long.
    inputs : tuple of str
        Bar columns that the formula reads.
    window : int or None
        Period in sessions; None if the formula has none.
    warm_up : int
        Leading rows without a value. Exactly these are NaN for valid bars.
    recursive : bool
        True for recursive averages, which depend on the whole history with fading weights. The
        others are functions of the newest ``warm_up + 1`` rows alone, bit for bit.
    scale_free : bool
        True if multiplying all prices by one number, and all volumes by another, changes nothing.
        Such a feature is unaffected by later splits and comparable between tickers.
    """

    name: str
    group: FeatureGroup | Literal["custom"]
    formula: Callable[..., FloatArray]
    inputs: tuple[str, ...]
    window: int | None = None
    warm_up: int = 0
    recursive: bool = False
    scale_free: bool = False

    def describe(self) -> str:
        """Return group, inputs and window in a line."""
        window = "" if self.window is None else f", over {self.window} sessions"
        return f"{self.group}: from {', '.join(self.inputs)}{window}"

    def compute(self, bars: Mapping[str, FloatArray]) -> FloatArray:
        """Evaluate the feature on one ticker's bars.

        Parameters
        ----------
        bars : mapping of str to (T,) float64
            `INPUT_COLUMNS` of consecutive bars in the chosen basis, oldest first.

        Returns
        -------
        (T,) float64
            NaN in the first ``warm_up`` rows. Row t depends on no later row, bit for bit.
        """
        period = () if self.window is None else (self.window,)
        values = self.formula(*(bars[column] for column in self.inputs), *period)
        values[: self.warm_up] = np.nan
        return values


def custom_feature(
    *,
    inputs: tuple[str, ...],
    window: int | None = None,
    warm_up: int = 0,
    recursive: bool = False,
    scale_free: bool = False,
) -> Callable[[Callable[..., FloatArray]], Feature]:
    """Declare a function as a feature, whose name is ``package.module:NAME`` of the function.

    The function cannot change the bars, and every call checks the length of what it returns.

    Parameters
    ----------
    inputs, window, warm_up, recursive, scale_free
        See `Feature`.

    Raises
    ------
    StockAssetsError
        An input is no column of a bar.
    """
    unknown = [name for name in inputs if name not in INPUT_COLUMNS]
    if unknown or not inputs:
        raise StockAssetsError(
            f"a custom feature has the inputs {', '.join(inputs) or 'none'}",
            f"Choose some of: {', '.join(INPUT_COLUMNS)}",
        )

    def declare(function: Callable[..., FloatArray]) -> Feature:
        name = f"{function.__module__}:{function.__name__}"

        @wraps(function)
        def formula(*arguments: FloatArray | int) -> FloatArray:
            columns = [argument.view() for argument in arguments if not isinstance(argument, int)]
            for column in columns:
                column.flags.writeable = False
            values = np.array(function(*columns, *arguments[len(columns) :]), dtype=np.float64)
            if values.shape != columns[0].shape:
                raise StockAssetsError(
                    f"the feature {name} returns shape {values.shape} for {len(columns[0])} bars",
                    "Return one number per bar",
                )
            return values

        return Feature(name, "custom", formula, inputs, window, warm_up, recursive, scale_free)

    return declare
