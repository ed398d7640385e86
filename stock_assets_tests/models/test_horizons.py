"""Longer horizons: every step means the same session in labels, forecasts and scores."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stock_assets.config import Dataset, Features, Target
from stock_assets.evaluation.forecast_checks import invalid_forecasts
from stock_assets.evaluation.scoring import score_due
from stock_assets.features.dataset import build_feature_set
from stock_assets.features.scaling import Scaler, fit_scalers
from stock_assets.features.splits import split_dataset
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.models.data import TrainingData, load_training_data
from stock_assets.models.intervals import FixedIntervals
from stock_assets.models.networks import Network, NetworkSpec, build_network
from stock_assets.models.recipe import NO_SHRINKAGE
from stock_assets.models.training import fit
from stock_assets.storage.arrays import ArrayStore
from stock_assets_tests.models.bundles import AS_OF, LAST, bundle, sample_bars
from stock_assets_tests.models.examples import ARCHITECTURES, fit_settings
from stock_assets_tests.storage.examples import bars as made_up_bars

HORIZON = 3
DAYS = calendar.sessions(date(2012, 1, 3), date(2012, 12, 31))
HELD_OUT = calendar.sessions(AS_OF, LAST)
each_target = pytest.mark.parametrize("target", ["close", "log_return"])


def counting_bars() -> pd.DataFrame:
    """Return two tickers whose closes count their sessions, from 100."""
    rows = made_up_bars("AB", DAYS)
    number = 100.0 + rows.groupby("ticker").cumcount()
    return rows.assign(open=number, high=number, low=number, close=number)


class Counting(Network):
    """Forecasts closes that count sessions, in scaled target units."""

    def __init__(
        self, spec: NetworkSpec, scalers: tuple[Scaler, Scaler], target: Target, close: int
    ) -> None:
        super().__init__(spec)
        self.error = torch.nn.Parameter(torch.zeros(1))
        self.scalers, self.target, self.close = scalers, target, close

    def forward(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        features, target = self.scalers
        last = features.inverse(x[:, -1].double().numpy())[..., self.close]
        closes = last[:, np.newaxis] + np.arange(1, HORIZON + 1)[:, np.newaxis]
        steps = np.log(closes / (closes - 1)) if self.target == "log_return" else closes
        return torch.from_numpy(target.transform(steps[..., np.newaxis])[..., 0]) + self.error


def counting(target: Target, folder: Path) -> tuple[TrainingData, Bundle]:
    """Store the counting bars as training data; return it with a bundle that is always right."""
    dataset = Dataset(
        target=target,
        window=5,
        prediction_length=HORIZON,
        validation_sessions=40,
        test_sessions=20,
    )
    built = build_feature_set(
        counting_bars(), Features(groups=["raw"], basis="raw"), dataset, DAYS[0], DAYS[-1]
    )
    panel = built.panel
    split = split_dataset(len(panel.sessions), dataset)
    scalers = fit_scalers(panel.values, panel.valid, built.target, split.train, dataset)
    store = ArrayStore(str(folder))
    stored = store.write_tensors(
        {"values": panel.values, "valid": panel.valid, "close": panel.close}
    )
    path = store.local_path(stored.location)
    data = load_training_data(path, dataset, scalers, split.train, split.validation)
    spec = NetworkSpec("lstm", 2, len(panel.features), 5, 8, 1, 0.0, HORIZON)
    network = Counting(spec, scalers, target, panel.features.index("Close"))
    recipe = replace(
        bundle(horizon=HORIZON).recipe,
        as_of=DAYS[-1],
        first_session=DAYS[0],
        tickers=panel.tickers,
        features=panel.features,
        basis="raw",
        adjustment_factors=built.adjustment_factors,
        target=target,
        network=spec,
        feature_scaler=scalers[0],
        target_scaler=scalers[1],
    )
    return data, Bundle(recipe, network)


@each_target
def test_exact_network_has_no_loss(target: Target, tmp_path: Path) -> None:
    data, counts = counting(target, tmp_path)
    settings = fit_settings(epochs=1, learning_rate=0.0, loss="mae")
    (score,) = fit(counts.network, data, settings).history
    assert score.train_loss < 1e-4
    assert score.validation_loss < 1e-4


@each_target
def test_exact_forecasts_are_scored_without_error(target: Target, tmp_path: Path) -> None:
    _, counts = counting(target, tmp_path)
    frame = counts.forecast(counting_bars(), DAYS[50:-HORIZON])
    np.testing.assert_allclose(
        frame["predicted_price"], frame["last_close"] + frame["horizon"], rtol=1e-5
    )
    np.testing.assert_allclose(
        frame["predicted_price"], frame["last_close"] * np.exp(frame["predicted_return"])
    )
    scored = score_due(frame, counting_bars())
    assert len(scored) == len(frame)
    np.testing.assert_allclose(scored["predicted"], scored["actual"], rtol=1e-5)
    ahead = scored["actual"] - scored["persistence"]
    np.testing.assert_array_equal(ahead, scored["horizon"])


def nearest(model: Bundle) -> Bundle:
    """Reduce a bundle to horizon 1."""
    spec = replace(model.recipe.network, horizon=1)
    network, weights = build_network(spec), model.network.state_dict()
    rows = {name: len(value) for name, value in network.state_dict().items()}
    network.load_state_dict({name: value[: rows[name]] for name, value in weights.items()})
    recipe = replace(
        model.recipe,
        network=spec,
        intervals=FixedIntervals((0.7,), 0.9),
        shrinkage=NO_SHRINKAGE,
    )
    return Bundle(recipe, network.eval())


@pytest.mark.parametrize(
    ("architecture", "target"),
    [("lstm", "close"), *((architecture, "log_return") for architecture in ARCHITECTURES)],
)
def test_horizon_1_agrees_with_a_model_of_one_session(architecture: str, target: Target) -> None:
    model = bundle(architecture, target, horizon=HORIZON)
    frame = model.forecast(sample_bars(), HELD_OUT)
    own = frame[frame["horizon"] == 1].reset_index(drop=True)
    expected = nearest(model).forecast(sample_bars(), HELD_OUT)
    texts = own.pop("intervals"), expected.pop("intervals")
    pd.testing.assert_frame_equal(own, expected, rtol=1e-5)
    for mine, other in zip(
        *(pd.DataFrame(map(json.loads, text))[0] for text in texts), strict=True
    ):
        assert mine == pytest.approx(other, rel=1e-5)
    assert frame["predicted_return"].groupby(frame["horizon"]).std().gt(1e-4).all()


def test_forecast_has_a_row_per_ticker_and_horizon() -> None:
    frame = bundle(horizon=HORIZON).forecast(sample_bars(), HELD_OUT)
    key = ["as_of_session", "ticker", "horizon"]
    assert len(frame) == HORIZON * 5 * len(HELD_OUT)
    assert frame[key].equals(frame[key].sort_values(key))
    assert not frame[key].duplicated().any()
    assert invalid_forecasts(frame).empty
    widths = np.log(frame["upper_price"] / frame["lower_price"]).groupby(frame["horizon"]).mean()
    assert widths.is_monotonic_increasing


def test_target_sessions_skip_weekends_and_holidays() -> None:
    frame = bundle(horizon=HORIZON).forecast(sample_bars(), [date(2013, 1, 18)])
    assert frame["target_session"].dt.date.unique().tolist() == [
        date(2013, 1, 22),  # the 21st is a holiday
        date(2013, 1, 23),
        date(2013, 1, 24),
    ]


def test_each_horizon_has_its_own_interval() -> None:
    model = bundle(horizon=HORIZON)
    widths = FixedIntervals((0.7, 5.0, 0.1), 0.9)
    wide = Bundle(replace(model.recipe, intervals=widths), model.network)
    before, after = (own.forecast(sample_bars(), HELD_OUT[:5]) for own in (model, wide))
    moved = np.sign(after["upper_price"] - before["upper_price"])
    assert moved.tolist() == after["horizon"].map({1: 0.0, 2: 1.0, 3: -1.0}).tolist()
