"""Networks: shapes, masks, what an untrained one says."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stock_assets.core.errors import StockAssetsError
from stock_assets.models.networks import Network, NetworkSpec, build_network, pick_device
from stock_assets.models.training import weights_digest
from stock_assets_tests.models.examples import ARCHITECTURES, WINDOW, learnable_data, spec

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
law = settings(max_examples=25, deadline=None)


def trained_like(architecture: str, **changes: object) -> Network:
    """A network in evaluation mode whose every weight matters, as after training."""
    network = build_network(spec(architecture, **changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return network.eval()


def example(seed: int = 0, batch: int = 4, present: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, WINDOW, 3, 2, generator=generator)
    return x, torch.rand(batch, WINDOW, 3, generator=generator) < present


@each_architecture
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_gives_every_ticker_a_number_per_step(architecture: str, horizon: int, layers: int) -> None:
    network = trained_like(architecture, horizon=horizon, layers=layers)
    assert network(*example()).shape == (4, horizon, 3)


@each_architecture
def test_untrained_forecasts_exactly_zero(architecture: str) -> None:
    network = build_network(spec(architecture, horizon=2), seed=5)
    x, valid = example(present=0.7)
    assert torch.equal(network(1e3 * x, valid), torch.zeros(4, 2, 3))


@each_architecture
def test_one_seed_one_network_and_the_random_state_is_left_alone(architecture: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = build_network(spec(architecture), seed=5)
    torch.rand(10)
    again, other = (build_network(spec(architecture), seed=seed) for seed in (5, 6))
    assert weights_digest(first) == weights_digest(again) != weights_digest(other)
    torch.manual_seed(3)
    build_network(spec(architecture), seed=9)
    assert torch.equal(torch.get_rng_state(), before)


@each_architecture
def test_a_window_is_forecast_the_same_alone_and_in_company(architecture: str) -> None:
    network = trained_like(architecture)
    x, valid = example(present=0.8)
    torch.testing.assert_close(network(x, valid)[2:3], network(x[2:3], valid[2:3]))


@each_architecture
@law
@given(seed=st.integers(0, 999), present=st.floats(0, 1), junk=st.sampled_from([1e9, torch.nan]))
def test_what_stands_where_invalid_never_matters(
    architecture: str, seed: int, present: float, junk: float
) -> None:
    network = trained_like(architecture)
    x, valid = example(seed, present=present)
    spoiled = torch.where(valid.unsqueeze(-1), x, junk)
    assert torch.equal(network(spoiled, valid), network(x, valid))


@each_architecture
@law
@given(seed=st.integers(0, 999), present=st.floats(0, 1))
def test_no_mask_gives_a_nan_or_a_nan_gradient(
    architecture: str, seed: int, present: float
) -> None:
    network = trained_like(architecture).train()
    forecast = network(*example(seed, present=present))
    forecast.square().sum().backward()
    assert forecast.isfinite().all()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in network.parameters())


@each_architecture
def test_even_a_window_without_any_bar_gives_numbers(architecture: str) -> None:
    x, valid = example(present=0.0)
    assert not valid.any()
    network = trained_like(architecture)
    assert network(x, valid).isfinite().all()
    with torch.no_grad():
        assert network(x, valid).isfinite().all()


@each_architecture
def test_every_session_and_ticker_is_seen(architecture: str) -> None:
    x, valid = example(batch=1)
    x.requires_grad_()
    trained_like(architecture)(x, valid)[0, 0, 1].backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=(0, 3)) > 0).all()


def test_an_absent_ticker_changes_nothing_for_the_others_under_cross_attention() -> None:
    network = trained_like("lstm_cross_attention")
    x, valid = example()
    valid[:, -1, 2] = False
    changed = x.clone()
    changed[:, :, 2] += 5.0
    before, after = network(x, valid), network(changed, valid)
    assert torch.equal(before[..., :2], after[..., :2])
    assert not torch.equal(before[..., 2], after[..., 2])


def test_a_ticker_that_is_hardly_there_is_attended_by_nobody() -> None:
    network = trained_like("lstm_cross_attention")
    x, valid = example()
    valid[:, :-1, 2] = False
    changed = x.clone()
    changed[:, -1, 2] += 5.0
    before, after = network(x, valid), network(changed, valid)
    assert torch.equal(before[..., :2], after[..., :2])


def test_cross_attention_treats_tickers_it_cannot_tell_apart_alike() -> None:
    network = trained_like("lstm_cross_attention", horizon=2)
    with torch.no_grad():
        network.get_parameter("ticker").zero_()
    x, valid = example(present=0.8)
    order = [2, 0, 1]
    forecast = network(x, valid)[..., order]
    torch.testing.assert_close(network(x[:, :, order], valid[:, :, order]), forecast)


def test_cross_attention_grows_with_tickers_only_by_their_embeddings() -> None:
    def size(tickers: int) -> int:
        network = build_network(spec("lstm_cross_attention", tickers=tickers))
        return sum(weight.numel() for weight in network.parameters())

    assert size(500) - size(3) == 497 * 8


@pytest.mark.parametrize("architecture", ["lstm_attention", "lstm_cross_attention"])
def test_attention_is_added_to_what_it_attends_from(architecture: str) -> None:
    """Where attention says nothing, the state itself goes on: a residual connection."""
    network = trained_like(architecture)
    with torch.no_grad():
        for name in ("attention.out_proj.weight", "attention.out_proj.bias"):
            network.get_parameter(name).zero_()
    x, valid = example()
    assert not torch.allclose(network(x, valid), network(x + 1.0, valid))


def test_tickers_start_as_the_typical_one() -> None:
    network = build_network(spec("lstm_cross_attention"), seed=4)
    assert not network.get_parameter("ticker").any()


def test_a_ticker_that_is_gone_is_attended_by_nobody_however_much_was_there() -> None:
    network = trained_like("lstm_cross_attention", window=12)
    x = torch.randn(4, 12, 3, 2, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(4, 12, 3, dtype=torch.bool)
    valid[:, -1, 2] = False
    assert valid[..., 2].double().mean() > 0.9
    changed = x.clone()
    changed[:, :, 2] += 5.0
    assert torch.equal(network(x, valid)[..., :2], network(changed, valid)[..., :2])


def test_attention_over_time_knows_the_order_of_sessions() -> None:
    network = trained_like("lstm_attention")
    x, valid = example()
    with torch.no_grad():
        before = network(x, valid)
        positions = network.get_parameter("positions")
        positions.copy_(positions.flip(0))
    assert not torch.allclose(network(x, valid), before)


@each_architecture
def test_dropout_acts_in_training_alone_and_one_layer_does_not_warn(architecture: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = trained_like(architecture, dropout=0.5)
    inputs = example()
    assert torch.equal(network(*inputs), network(*inputs))
    network.train()
    assert not torch.equal(network(*inputs), network(*inputs))


@each_architecture
def test_a_specification_survives_json(architecture: str) -> None:
    original = spec(architecture, horizon=2, dropout=0.30000000000000004)
    assert NetworkSpec.from_dict(json.loads(json.dumps(original.to_dict()))) == original
    assert build_network(original).spec == original


def test_attention_over_time_passes_over_sessions_without_any_ticker() -> None:
    network = trained_like("lstm_attention")
    x, valid = example()
    valid[:, 2] = False
    with torch.no_grad():
        before = network(x, valid)
        # The position of a session is all that attention could still see of it.
        network.get_parameter("positions")[2] += 5.0
    assert torch.equal(network(x, valid), before)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_many_inputs_are_learned_from_as_through_pytorchs_own_lstm(
    layers: int, training: bool
) -> None:
    network = build_network(spec("lstm", tickers=80, layers=layers, dropout=0.4), seed=2)
    ours = network.get_submodule("recurrent").train(training)
    theirs = nn.LSTM(160, 8, layers, dropout=0.4 * (layers - 1)).train(training)
    theirs.load_state_dict(ours.state_dict())
    assert type(ours) is not nn.LSTM
    x = torch.randn(WINDOW, 4, 160, generator=torch.Generator().manual_seed(3))
    outcomes = []
    for recurrent in (ours, theirs):
        torch.manual_seed(1)
        states, _ = recurrent(x)
        states[-1].square().sum().backward()
        outcomes.append(states)
    torch.testing.assert_close(*outcomes)
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad)


@each_architecture
def test_windows_reach_the_recurrent_layers_as_they_were_cut(architecture: str) -> None:
    """Session by session in memory: PyTorch would else copy them once more."""
    data = learnable_data()
    network = build_network(spec(architecture))
    seen: list[bool] = []
    network.get_submodule("recurrent").register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous())
    )
    network(*data.windows.batch(torch.as_tensor(data.train[:4])))
    assert seen == [True]


def test_a_device_is_always_found() -> None:
    assert torch.zeros(1, device=pick_device()).sum() == 0
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(StockAssetsError, match="finds no CUDA device"):
        pick_device("cuda")
