"""Training: deterministic, stops early, restores the best weights, counts only usable pairs."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
import torch

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.metrics import score_rows, summarise
from stock_assets.features.windows import usable_windows
from stock_assets.market.sources.sample import SampleSource
from stock_assets.models.data import TrainingData
from stock_assets.models.device import Budget
from stock_assets.models.networks import Network, build_network
from stock_assets.models.training import (
    EpochScore,
    Fit,
    decayed_weights,
    fit,
    forecast_scaled,
    weights_digest,
)
from stock_assets_tests.models.examples import (
    ARCHITECTURES,
    SETTINGS,
    WINDOW,
    fit_settings,
    learnable_data,
    spec,
    unscaled,
    with_windows,
)

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
DATA = learnable_data()


def fitted(
    architecture: str = "lstm", data: TrainingData = DATA, **changes: object
) -> tuple[Network, Fit]:
    settings = fit_settings(**changes)
    network = build_network(spec(architecture), settings.seed)
    return network, fit(network, data, settings)


def squared_errors(network: Network, data: TrainingData, ends: np.ndarray) -> np.ndarray:
    forecast = forecast_scaled(network, data.windows, ends)[:, 0]
    labels = data.target.numpy()[ends]
    good = usable_windows(data.windows.valid.numpy(), ends, WINDOW) & np.isfinite(labels)
    return np.square(forecast - labels)[good]


@each_architecture
def test_fit_learns_a_signal(architecture: str) -> None:
    _, result = fitted(architecture, epochs=25, patience=25, learning_rate=0.02)
    labels = DATA.target[DATA.validation].numpy()
    assert result.best.validation_loss < 0.5 * np.nanmean(np.square(labels))
    assert result.history[-1].train_loss < result.history[0].train_loss


@each_architecture
def test_fit_is_deterministic_per_seed(architecture: str) -> None:
    first, again, other = (fitted(architecture, seed=seed)[0] for seed in (1, 1, 2))
    assert weights_digest(first) == weights_digest(again) != weights_digest(other)


def test_fit_does_not_depend_on_the_global_random_state() -> None:
    networks = [build_network(spec(dropout=0.4, layers=2), seed=0) for _ in range(2)]
    for noise, network in enumerate(networks):
        torch.manual_seed(noise)
        fit(network, DATA, SETTINGS)
    assert weights_digest(networks[0]) == weights_digest(networks[1])


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"batch_size": 8},
        {"learning_rate": 0.02},
        {"weight_decay": 0.1},
        {"gradient_clip": 0.01},
        {"loss": "mae"},
    ],
    ids=str,
)
def test_every_setting_changes_the_weights(change: dict[str, object]) -> None:
    # Without dropout the seed acts through the order of windows alone.
    networks = [build_network(spec(dropout=0.0), seed=0) for _ in range(2)]
    fit(networks[0], DATA, SETTINGS)
    fit(networks[1], DATA, fit_settings(**change))
    assert weights_digest(networks[0]) != weights_digest(networks[1])


def test_dropout_is_active_in_training() -> None:
    networks = [build_network(spec(dropout=dropout), seed=0) for dropout in (0.0, 0.4)]
    assert weights_digest(networks[0]) == weights_digest(networks[1])
    for network in networks:
        fit(network.eval(), DATA, SETTINGS)
    assert weights_digest(networks[0]) != weights_digest(networks[1])


def test_fit_restores_the_random_state() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fitted()
    assert torch.equal(torch.get_rng_state(), before)


def test_fit_restores_the_best_weights() -> None:
    seen: dict[int, str] = {}
    network = build_network(spec(), 7)
    # With this rate the validation loss oscillates, so that the last epoch is not the best.
    result = fit(
        network,
        DATA,
        fit_settings(epochs=12, patience=12, learning_rate=0.3),
        lambda score: seen.update({score.epoch: weights_digest(network)}),
    )
    losses = [score.validation_loss for score in result.history]
    assert result.best_epoch == 1 + int(np.argmin(losses)) < len(losses)
    assert weights_digest(network) == seen[result.best_epoch] != seen[len(losses)]
    assert squared_errors(network, DATA, DATA.validation).mean() == pytest.approx(
        result.best.validation_loss, rel=1e-5
    )


def test_epoch_agrees_with_a_plain_pytorch_loop() -> None:
    data, settings = learnable_data(missing=0.2), fit_settings(epochs=1, batch_size=32)
    ours, plain = (build_network(spec(dropout=0.0), seed=3) for _ in range(2))
    fit(ours, data, settings)
    matrices, biases = ([w for w in plain.parameters() if w.ndim == rank] for rank in (2, 1))
    optimiser = torch.optim.AdamW(
        [{"params": matrices}, {"params": biases, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    good = usable_windows(data.windows.valid.numpy(), data.train, WINDOW)
    counted = torch.from_numpy(good) & data.target[data.train].isfinite()
    kept = counted.any(dim=1)
    ends, counted = torch.from_numpy(data.train)[kept], counted[kept]
    torch.manual_seed(settings.seed)
    sizes = []
    for rows in torch.split(torch.randperm(len(ends)), settings.batch_size):
        forecast = plain(*data.windows.batch(ends[rows]))[:, 0]
        error = (forecast - data.target[ends[rows]])[counted[rows]]
        optimiser.zero_grad()
        error.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), settings.gradient_clip)
        optimiser.step()
        sizes.append(len(error) / len(rows))
    assert len(set(sizes)) == len(sizes) > 1
    for weight, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, other, atol=1e-6, rtol=1e-4)


@each_architecture
def test_weights_of_layers_decay_and_others_do_not(architecture: str) -> None:
    network = build_network(spec(architecture), 7)
    decayed = decayed_weights(network)
    others = {name for name, _ in network.named_parameters()} - decayed
    assert {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0"} <= decayed
    assert all("bias" in name or name in ("norm.weight", "positions", "ticker") for name in others)
    idle = replace(DATA, target=torch.zeros_like(DATA.target))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    # Untrained networks forecast 0: without an error, decay alone changes a weight.
    fit(network, idle, fit_settings(epochs=1, weight_decay=0.1))
    changed = {name for name, w in network.state_dict().items() if not w.equal(before[name])}
    assert changed == {name for name in decayed if before[name].any()}


def test_fit_stops_when_patience_is_used_up() -> None:
    _, result = fitted(epochs=200, patience=3, learning_rate=0.1)
    assert len(result.history) == result.best_epoch + 3 < 200


def test_learning_rate_is_reduced_on_a_plateau() -> None:
    _, result = fitted(epochs=30, patience=9, learning_rate=0.1)
    rates = [score.learning_rate for score in result.history]
    assert rates[0] == 0.1
    losses = [score.validation_loss for score in result.history]
    expected, idle, best = [0.1], 0, np.inf
    for loss in losses[:-1]:
        idle, best = (0, loss) if loss < best else (idle + 1, best)
        lower = idle == SETTINGS.plateau_epochs
        expected.append(expected[-1] * (SETTINGS.plateau_factor if lower else 1.0))
        idle = 0 if lower else idle
    assert rates == expected
    assert rates[-1] < 0.1


def test_on_epoch_receives_each_epoch_in_order() -> None:
    scores: list[EpochScore] = []
    result = fit(build_network(spec()), DATA, SETTINGS, scores.append)
    assert tuple(scores) == result.history
    assert [score.epoch for score in scores] == [1, 2, 3, 4]


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_losses_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    data = learnable_data(missing=0.02)
    network = build_network(spec(dropout=0.0))
    settings = fit_settings(epochs=1, learning_rate=1e-12, batch_size=batch_size)
    score = fit(network, data, settings).best
    # The weights did not change, so both losses are those of the forecast 0.
    assert score.train_loss == pytest.approx(
        squared_errors(build_network(spec()), data, data.train).mean(), rel=1e-5
    )
    assert score.validation_loss == pytest.approx(
        squared_errors(build_network(spec()), data, data.validation).mean(), rel=1e-5
    )


@pytest.mark.parametrize(("loss", "of_two"), [("mae", 2.0), ("mse", 4.0), ("huber", 1.5)])
def test_losses_agree_with_their_names(loss: str, of_two: float) -> None:
    data = replace(DATA, target=torch.full_like(DATA.target, 2.0))
    _, result = fitted(data=data, loss=loss, epochs=1, learning_rate=1e-12)
    assert result.best.validation_loss == pytest.approx(of_two)


@each_architecture
def test_accumulated_gradients_equal_those_of_the_whole_batch(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights() -> list[torch.Tensor]:
        network = build_network(spec(architecture, dropout=0.0), 7)
        fit(network, learnable_data(missing=0.2), fit_settings(epochs=2))
        return list(network.parameters())

    whole = weights()
    monkeypatch.setattr("stock_assets.models.device._CPU", Budget(1, 1))
    for ours, theirs in zip(weights(), whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@each_architecture
def test_unusable_pairs_do_not_change_the_weights(architecture: str) -> None:
    absent = ~DATA.windows.valid
    junk = replace(
        with_windows(DATA, values=torch.where(absent.unsqueeze(-1), 1e6, DATA.windows.values)),
        target=torch.where(absent, 1e6, DATA.target),
    )
    assert weights_digest(fitted(architecture, junk)[0]) == weights_digest(fitted(architecture)[0])


@pytest.mark.parametrize("architecture", ["lstm", "lstm_attention"])
def test_ticker_without_labels_is_forecast_as_persistence(architecture: str) -> None:
    target = DATA.target.clone()
    target[:, 1] = torch.nan
    data = replace(DATA, target=target)
    network, _ = fitted(architecture, data)
    forecast = forecast_scaled(network, data.windows, data.validation)
    assert (forecast[:, 0, 1] == 0).all()
    assert (forecast[:, 0, 0] != 0).all()


@pytest.mark.parametrize("listed", [74, 79, 85], ids="listed {}".format)
@pytest.mark.parametrize("architecture", ["lstm", "lstm_attention"])
def test_untrained_ticker_does_not_change_other_forecasts(architecture: str, listed: int) -> None:
    """Training ends in session 79, so the ticker has 3, 1 or no valid session in it."""
    valid = DATA.windows.valid.clone()
    valid[:listed, 1] = False
    valid[listed + 1 : 80 : 2, 1] = False
    data = with_windows(DATA, valid=valid)
    network, _ = fitted(architecture, data)
    moved = data.windows.values.clone()
    moved[85:, 1] += 5.0
    before, after = (
        forecast_scaled(network, replace(data.windows, values=values), data.validation)
        for values in (data.windows.values, moved)
    )
    assert np.array_equal(before, after)
    assert (before[:, 0, 1] == 0).all()


def test_forecasts_use_one_thread_and_restore_the_setting() -> None:
    """Rounding depends on the number of threads."""
    network = build_network(spec())
    used: list[int] = []
    network.register_forward_pre_hook(lambda *_: used.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        forecast_scaled(network, DATA.windows, DATA.validation)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(used) == {1}


def test_fit_reads_only_the_two_segments() -> None:
    values, target = DATA.windows.values.clone(), DATA.target.clone()
    # Windows end in 5..79 and 90..118; with a window of 6, session 80..84 is in none of them.
    values[80:85], target[80:90] = 99.0, 99.0
    values[119], target[119] = 99.0, 99.0
    changed = replace(with_windows(DATA, values=values), target=target)
    assert weights_digest(fitted(data=changed)[0]) == weights_digest(fitted()[0])


def test_validation_labels_do_not_change_the_train_losses() -> None:
    target = DATA.target.clone()
    target[90:] *= -1
    losses: list[list[float]] = []
    for data in (DATA, replace(DATA, target=target)):
        settings = fit_settings(plateau_epochs=100)
        result = fit(build_network(spec()), data, settings)
        losses.append([score.train_loss for score in result.history])
    assert losses[0] == losses[1]


def test_each_step_learns_its_own_session() -> None:
    # The label of session t is t itself, so step h of the window ending at t must learn t + h.
    sessions = torch.arange(120, dtype=torch.float32)
    data = replace(
        with_windows(
            DATA,
            values=(sessions / 100)[:, None, None].expand(120, 3, 2).contiguous(),
            valid=torch.ones_like(DATA.windows.valid),
        ),
        target=sessions[:, None].expand(120, 3).contiguous(),
        train=np.array([50]),
        validation=np.array([50]),
    )
    network = build_network(spec(horizon=3, dropout=0.0))
    settings = fit_settings(
        epochs=300, patience=300, plateau_epochs=150, learning_rate=0.5, loss="mae"
    )
    fit(network, data, settings)
    learnt = forecast_scaled(network, data.windows, data.train)
    np.testing.assert_allclose(learnt[0], [[50] * 3, [51] * 3, [52] * 3], atol=0.45)


def test_diverged_fit_is_an_error() -> None:
    values = DATA.windows.values.clone()
    values[50] = torch.inf
    with pytest.raises(StockAssetsError, match="training diverged"):
        fitted(data=with_windows(DATA, values=values))


@pytest.mark.parametrize("segment", ["train", "validation"])
def test_segment_without_usable_windows_is_an_error(segment: str) -> None:
    target = DATA.target.clone()
    target[getattr(DATA, segment)] = torch.nan
    with pytest.raises(StockAssetsError, match=f"the {segment}.* has no usable window"):
        fitted(data=replace(DATA, target=target))


@each_architecture
def test_forecasts_have_the_order_of_their_windows(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _ = fitted(architecture)
    ends = np.array([100, 7, 63, 7])
    whole = forecast_scaled(network, DATA.windows, ends)
    assert whole.shape == (4, 1, 3)
    assert whole.dtype == np.float32
    monkeypatch.setattr("stock_assets.models.device._CPU", Budget(2**30, 1))
    alone = forecast_scaled(network, DATA.windows, ends)
    np.testing.assert_allclose(alone, whole, atol=1e-6)
    np.testing.assert_array_equal(alone[1], alone[3])


@each_architecture
def test_forecast_ignores_later_sessions(architecture: str) -> None:
    network, _ = fitted(architecture)
    ends = np.array([20, 60])
    later = DATA.windows.values.clone()
    later[61:] = 99.0
    np.testing.assert_array_equal(
        forecast_scaled(network, replace(DATA.windows, values=later), ends),
        forecast_scaled(network, DATA.windows, ends),
    )


@each_architecture
def test_network_is_about_as_good_as_persistence_on_real_prices(architecture: str) -> None:
    bars = (
        SampleSource()
        .fetch(dict.fromkeys(["GOOG", "IBM", "MSFT"], date(2011, 1, 3)), date(2013, 2, 28))
        .bars
    )
    closes = bars.pivot_table(index="session", columns="ticker", values="close")
    returns = np.log(closes).diff().fillna(0.0).to_numpy(dtype=np.float32)
    unit = np.sqrt(np.square(returns[:400]).mean())
    values = np.stack([returns, np.abs(returns)], axis=2) / unit
    data = TrainingData(
        windows=unscaled(values, np.ones(returns.shape, dtype=np.bool_)),
        target=torch.from_numpy(np.roll(returns, -1, axis=0) / unit),
        horizon=1,
        train=np.arange(WINDOW, 400),
        validation=np.arange(410, 470),
        calibration=np.arange(0),
    )
    network, _ = fitted(architecture, data, loss="huber", learning_rate=0.001)
    ends = np.arange(480, len(returns) - 1)
    move = unit * forecast_scaled(network, data.windows, ends)[:, 0]
    last, following = closes.iloc[ends], closes.iloc[ends + 1]
    long = {
        "persistence": last.to_numpy().ravel(),
        "predicted": (last * np.exp(move)).to_numpy().ravel(),
        "actual": following.to_numpy().ravel(),
    }
    pairs = pd.MultiIndex.from_product([following.index, closes.columns]).to_frame(index=False)
    metrics = summarise(score_rows(pairs.assign(**long)))
    assert metrics.relative_mae == pytest.approx(1, abs=0.05)
    assert 0.005 < metrics.mape < 0.02


def test_weights_digest_depends_on_values_and_shapes() -> None:
    network = build_network(spec())
    before = weights_digest(network)
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-6
    assert weights_digest(network) != before
    assert weights_digest(build_network(spec(hidden_size=16))) != before
