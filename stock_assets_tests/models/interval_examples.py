"""Calibrated bundles, and bars that are changed after a session."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from stock_assets.config import Scale
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.models.intervals import ScaledIntervals
from stock_assets_tests.models.bundles import (
    AS_OF,
    LAST,
    bundle,
    calibrated,
    calibration_sessions,
    sample_bars,
)

DAYS = calendar.sessions(AS_OF, LAST)

SINCE = {
    horizon: calendar.sessions(calendar.next_session(calibration_sessions(horizon)[-1]), LAST)
    for horizon in (1, 3)
}
"""The sessions after those of calibration, by horizon."""

PRICES = ["open", "high", "low", "close"]

each_scale = pytest.mark.parametrize("scale", get_args(Scale))


@cache
def example(target: str = "log_return", horizon: int = 1, scale: str = "combined") -> Bundle:
    return calibrated(bundle(target=target, horizon=horizon), scale)


def intervals_of(model: Bundle) -> ScaledIntervals:
    assert isinstance(model.recipe.intervals, ScaledIntervals)
    return model.recipe.intervals


def changed_after(day: date, bars: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return bars whose prices after a session are multiplied at random."""
    bars = (sample_bars() if bars is None else bars).copy()
    later = bars["session"] > pd.Timestamp(day)
    bars.loc[later, PRICES] *= np.random.default_rng(1).uniform(0.5, 2, (later.sum(), 1))
    return bars


def asymmetric(model: Bundle) -> Bundle:
    recipe = replace(model.recipe, intervals=replace(intervals_of(model), asymmetric=True))
    return Bundle(recipe, model.network)


def with_intervals(model: Bundle, **changes: Any) -> Bundle:
    intervals = replace(intervals_of(model), **changes)
    return Bundle(replace(model.recipe, intervals=intervals), model.network)
