"""Refit: the training loop without a validation segment, on all known labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stock_assets.core.errors import StockAssetsError
from stock_assets.models.checkpoint import Checkpoint
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import Network, build_network
from stock_assets.models.training import FitSettings, fit, refit, weights_digest
from stock_assets_tests.models.examples import (
    ARCHITECTURES,
    SETTINGS,
    WINDOW,
    fit_settings,
    learnable_data,
    spec,
)

DATA = learnable_data()
LAST_LABELLED = len(DATA.target) - 2
WHOLE = replace(DATA, train=np.arange(WINDOW - 1, LAST_LABELLED + 1))
RATES = [0.01, 0.01, 0.005]
UNEVEN = fit_settings(epochs=12, patience=12, plateau_epochs=1, learning_rate=0.05, loss="huber")


def refitted(
    data: TrainingData = WHOLE, settings: FitSettings = SETTINGS, rates: list[float] = RATES
) -> Network:
    network = build_network(spec(), settings.seed)
    refit(network, data, settings, rates)
    return network


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_refit_with_the_rates_of_a_fit_has_its_best_weights(architecture: str) -> None:
    chosen = spec(architecture, dropout=0.4, layers=2)
    first, again = (build_network(chosen, UNEVEN.seed) for _ in range(2))
    result = fit(first, DATA, UNEVEN)
    best = result.history[: result.best_epoch]
    losses = refit(again, DATA, UNEVEN, [score.learning_rate for score in best])
    assert weights_digest(again) == weights_digest(first)
    assert losses == [score.train_loss for score in best]


def test_that_fit_stops_after_its_best_epoch_with_a_lower_rate() -> None:
    network = build_network(spec(dropout=0.4, layers=2), UNEVEN.seed)
    result = fit(network, DATA, UNEVEN)
    assert 1 < result.best_epoch < len(result.history)
    assert result.best.learning_rate < UNEVEN.learning_rate


def test_refit_does_not_depend_on_the_global_random_state() -> None:
    digests = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        digests.append(weights_digest(refitted()))
        assert torch.equal(torch.get_rng_state(), before)
    assert digests[0] == digests[1] != weights_digest(refitted(settings=fit_settings(seed=8)))


def test_refit_depends_on_every_rate_and_no_validation_setting() -> None:
    plain = weights_digest(refitted())
    for place in range(len(RATES)):
        changed = [rate * (2 if epoch == place else 1) for epoch, rate in enumerate(RATES)]
        assert weights_digest(refitted(rates=changed)) != plain
    ignored = fit_settings(epochs=1, patience=1, learning_rate=9.0, plateau_epochs=1)
    assert weights_digest(refitted(settings=ignored)) == plain
    assert weights_digest(refitted(replace(WHOLE, validation=DATA.validation[:3]))) == plain


def with_label(position: int) -> TrainingData:
    """Change the label of the window that ends at a position."""
    target = WHOLE.target.clone()
    target[position] = 3.0
    return replace(WHOLE, target=target)


def test_refit_uses_the_newest_label_and_nothing_later() -> None:
    plain = weights_digest(refitted())
    for position in (WINDOW - 1, 85, LAST_LABELLED):  # of training, between, and of the newest
        assert weights_digest(refitted(with_label(position))) != plain
    assert weights_digest(refitted(with_label(LAST_LABELLED + 1))) == plain
    values = WHOLE.windows.values.clone()
    values[LAST_LABELLED + 1 :] = 5.0
    changed = replace(WHOLE, windows=replace(WHOLE.windows, values=values))
    assert weights_digest(refitted(changed)) == plain


def test_interrupted_refit_resumes_to_the_same_weights(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "refit.safetensors", "fingerprint")
    chosen = spec("lstm_attention", dropout=0.4, layers=2)
    whole, begun, resumed = (build_network(chosen, SETTINGS.seed) for _ in range(3))
    losses = refit(whole, WHOLE, SETTINGS, RATES)
    assert refit(begun, WHOLE, SETTINGS, RATES[:2], checkpoint) == losses[:2]
    left = checkpoint.path.read_bytes()
    torch.manual_seed(1)
    assert refit(resumed, WHOLE, SETTINGS, RATES, checkpoint) == losses
    assert weights_digest(resumed) == weights_digest(whole)
    assert checkpoint.path.read_bytes() != left
    again = build_network(chosen, SETTINGS.seed)
    assert refit(again, WHOLE, fit_settings(loss="mae"), RATES, checkpoint) == losses
    assert weights_digest(again) == weights_digest(whole), "all epochs are done"


def test_diverged_refit_is_an_error() -> None:
    with pytest.raises(StockAssetsError, match="refit diverged"):
        refitted(settings=fit_settings(loss="mse"), rates=[1e30] * 4)
