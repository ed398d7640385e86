"""Bundles from real bars with random instead of trained weights."""

from __future__ import annotations

from datetime import date
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from stock_assets.config import Dataset, Features, Forecast
from stock_assets.core.module_code import code_digests
from stock_assets.features.dataset import FeatureSet, build_feature_set
from stock_assets.features.scaling import fit_reference, fit_scalers
from stock_assets.features.splits import split_dataset, split_validation
from stock_assets.market import calendar
from stock_assets.market.sources.sample import load_sample
from stock_assets.models.bundle import Bundle
from stock_assets.models.calibration import calibrate
from stock_assets.models.intervals import FixedIntervals
from stock_assets.models.networks import NetworkSpec, build_network
from stock_assets.models.recipe import NO_SHRINKAGE, Recipe

FIRST = date(2011, 6, 1)
AS_OF = date(2012, 10, 26)
LAST = date(2013, 3, 1)
DAYS = calendar.sessions(AS_OF, LAST)
DATASET_ID = "20121026_120000"
FEATURES = Features(groups=["returns", "momentum"])
DATASET = Dataset(window=10, validation_sessions=40, test_sessions=20)
ARCHITECTURES = ("lstm", "lstm_attention", "lstm_cross_attention")
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@cache
def sample_bars() -> pd.DataFrame:
    """Return the bars of five real tickers since `FIRST`; one is listed in May 2012."""
    bars = load_sample()
    return bars[bars["session"] >= pd.Timestamp(FIRST)].reset_index(drop=True)


def dataset(
    bars: pd.DataFrame | None = None,
    target: str = "log_return",
    features: Features = FEATURES,
    as_of: date = AS_OF,
    scaler: str = "standard",
    horizon: int = 1,
) -> tuple[FeatureSet, Dataset]:
    """Build the dataset of a bundle; return it with its parameters."""
    changes = {"target": target, "scaler": scaler, "prediction_length": horizon}
    chosen = DATASET.model_copy(update=changes)
    history = sample_bars() if bars is None else bars
    return build_feature_set(history, features, chosen, FIRST, as_of), chosen


def bundle(
    architecture: str = "lstm",
    target: str = "log_return",
    bars: pd.DataFrame | None = None,
    features: Features = FEATURES,
    seed: int = 1,
    dataset_id: str = DATASET_ID,
    as_of: date = AS_OF,
    scaler: str = "standard",
    horizon: int = 1,
    options: dict[str, int | float | str] | None = None,
) -> Bundle:
    """Build a bundle as of `as_of` whose forecasts differ from persistence."""
    built, chosen = dataset(bars, target, features, as_of, scaler, horizon)
    panel = built.panel
    split = split_dataset(len(panel.sessions), chosen)
    scalers = fit_scalers(panel.values, panel.valid, built.target, split.train, chosen)
    spec = NetworkSpec(
        architecture=architecture,
        tickers=len(panel.tickers),
        features=len(panel.features),
        window=chosen.window,
        hidden_size=16,
        layers=1,
        dropout=0.1,
        horizon=horizon,
        options=options or {},
    )
    network = build_network(spec, seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for weights in network.parameters():
            weights.add_(0.2 * torch.randn_like(weights))
    recipe = Recipe(
        dataset_run_id=dataset_id,
        as_of=as_of,
        first_session=panel.sessions[0].date(),
        tickers=panel.tickers,
        features=panel.features,
        basis=features.basis,
        adjustment_factors=built.adjustment_factors,
        target=chosen.target,
        network=spec,
        feature_scaler=scalers[0],
        target_scaler=scalers[1],
        reference=fit_reference(
            panel.values, panel.valid, scalers[0], split.train, chosen.window, 20
        ),
        intervals=FixedIntervals(tuple(0.7 * ahead**0.5 for ahead in range(1, horizon + 1)), 0.9),
        shrinkage=NO_SHRINKAGE * horizon,
        custom_code=code_digests((architecture, *panel.features)),
    )
    return Bundle(recipe, network.eval())


@cache
def example(architecture: str, horizon: int = 1) -> Bundle:
    """Return the one bundle of an architecture and a horizon; tests do not change it."""
    return bundle(architecture, horizon=horizon)


def up_to(day: date, bars: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the bars until a session."""
    bars = sample_bars() if bars is None else bars
    return bars[bars["session"] <= pd.Timestamp(day)].reset_index(drop=True)


def as_of(frame: pd.DataFrame, *days: date) -> pd.DataFrame:
    """Return the forecasts of as-of sessions."""
    return frame[frame["as_of_session"].isin(pd.to_datetime(list(days)))]


def calibration_sessions(horizon: int = 1) -> list[date]:
    """Return the sessions that a bundle is calibrated on."""
    built, chosen = dataset(horizon=horizon)
    validation = split_dataset(len(built.panel.sessions), chosen).validation
    _, calibration = split_validation(validation, chosen)
    return [day.date() for day in built.panel.sessions[calibration.positions()]]


def calibrated(
    model: Bundle,
    scale: str = "combined",
    bars: pd.DataFrame | None = None,
    coverages: tuple[float, ...] = (0.5, 0.8, 0.9),
    shrink: bool = False,
) -> Bundle:
    """Return a bundle with intervals that follow volatility."""
    return calibrate(
        model,
        sample_bars() if bars is None else bars,
        calibration_sessions(model.recipe.network.horizon),
        Forecast(scale=scale, coverages=list(coverages)),
        None if shrink else model.recipe.shrinkage,
    )


def same_frame(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    """Compare bit for bit, except the index."""
    return (
        list(left.columns) == list(right.columns)
        and len(left) == len(right)
        and all(
            left[name].to_numpy().tobytes() == right[name].to_numpy().tobytes()
            if left[name].dtype != object
            else left[name].tolist() == right[name].tolist()
            for name in left.columns
        )
        and left.dtypes.equals(right.dtypes)
    )


def bits(values: np.ndarray) -> bytes:
    """Return the bytes of an array in memory order."""
    return np.ascontiguousarray(values).tobytes()
