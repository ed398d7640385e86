"""Networks: shapes, masks, initial forecasts, memory per pass."""

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
shares = st.sampled_from([0.0, 0.5, 0.9, 1.0])
property_test = settings(max_examples=10, deadline=None)


def trained_like(architecture: str, **changes: object) -> Network:
    """Return a network in evaluation mode with all weights nonzero, as after training."""
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
def test_output_has_a_value_per_ticker_and_step(
    architecture: str, horizon: int, layers: int
) -> None:
    network = trained_like(architecture, horizon=horizon, layers=layers)
    assert network(*example()).shape == (4, horizon, 3)


@each_architecture
def test_untrained_network_forecasts_zero(architecture: str) -> None:
    network = build_network(spec(architecture, horizon=2), seed=5)
    x, valid = example(present=0.7)
    assert torch.equal(network(1e3 * x, valid), torch.zeros(4, 2, 3))


@each_architecture
def test_seed_determines_the_weights_without_changing_the_random_state(architecture: str) -> None:
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
def test_forecast_of_a_window_does_not_depend_on_its_batch(architecture: str) -> None:
    network = trained_like(architecture)
    x, valid = example(present=0.8)
    torch.testing.assert_close(network(x, valid)[2:3], network(x[2:3], valid[2:3]))


@each_architecture
@property_test
@given(
    seed=st.integers(0, 999),
    present=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    junk=st.sampled_from([1e9, torch.nan]),
)
def test_invalid_values_never_reach_the_output(
    architecture: str, seed: int, present: float, junk: float
) -> None:
    network = trained_like(architecture)
    x, valid = example(seed, present=present)
    spoiled = torch.where(valid.unsqueeze(-1), x, junk)
    assert torch.equal(network(spoiled, valid), network(x, valid))


@each_architecture
@property_test
@given(seed=st.integers(0, 999), present=shares)
def test_masks_never_give_nan_values_or_gradients(
    architecture: str, seed: int, present: float
) -> None:
    network = trained_like(architecture).train()
    forecast = network(*example(seed, present=present))
    forecast.square().sum().backward()
    assert forecast.isfinite().all()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in network.parameters())


@each_architecture
def test_window_without_bars_has_finite_forecasts(architecture: str) -> None:
    """PyTorch's attention returns NaN for it only without gradients."""
    x, valid = example(present=0.0)
    assert not valid.any()
    with torch.no_grad():
        assert trained_like(architecture)(x, valid).isfinite().all()


@each_architecture
def test_output_depends_on_every_session_and_ticker(architecture: str) -> None:
    x, valid = example(batch=1)
    x.requires_grad_()
    trained_like(architecture)(x, valid)[0, 0, 1].backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=(0, 3)) > 0).all()


def test_cross_attention_masks_a_ticker_absent_in_the_last_session() -> None:
    network = trained_like("lstm_cross_attention")
    x, valid = example()
    valid[:, -1, 2] = False
    changed = x.clone()
    changed[:, :, 2] += 5.0
    before, after = network(x, valid), network(changed, valid)
    assert torch.equal(before[..., :2], after[..., :2])
    assert not torch.equal(before[..., 2], after[..., 2])


def test_cross_attention_masks_a_ticker_with_few_sessions() -> None:
    network = trained_like("lstm_cross_attention")
    x, valid = example()
    valid[:, :-1, 2] = False
    changed = x.clone()
    changed[:, -1, 2] += 5.0
    before, after = network(x, valid), network(changed, valid)
    assert torch.equal(before[..., :2], after[..., :2])


def test_cross_attention_without_embeddings_is_permutation_equivariant() -> None:
    network = trained_like("lstm_cross_attention", horizon=2)
    with torch.no_grad():
        network.get_parameter("ticker").zero_()
    x, valid = example(present=0.8)
    order = [2, 0, 1]
    forecast = network(x, valid)[..., order]
    torch.testing.assert_close(network(x[:, :, order], valid[:, :, order]), forecast)


def test_cross_attention_has_only_embeddings_per_ticker() -> None:
    def size(tickers: int) -> int:
        network = build_network(spec("lstm_cross_attention", tickers=tickers))
        return sum(weight.numel() for weight in network.parameters())

    assert size(500) - size(3) == 497 * 8


@pytest.mark.parametrize("architecture", ["lstm_attention", "lstm_cross_attention"])
def test_attention_has_a_residual_connection(architecture: str) -> None:
    network = trained_like(architecture)
    with torch.no_grad():
        for name in ("attention.out_proj.weight", "attention.out_proj.bias"):
            network.get_parameter(name).zero_()
    x, valid = example()
    assert not torch.allclose(network(x, valid), network(x + 1.0, valid))


def test_ticker_embeddings_start_at_zero() -> None:
    network = build_network(spec("lstm_cross_attention"), seed=4)
    assert not network.get_parameter("ticker").any()


def test_attention_over_time_depends_on_the_order_of_sessions() -> None:
    network = trained_like("lstm_attention")
    x, valid = example()
    with torch.no_grad():
        before = network(x, valid)
        positions = network.get_parameter("positions")
        positions.copy_(positions.flip(0))
    assert not torch.allclose(network(x, valid), before)


@each_architecture
def test_dropout_is_active_only_in_training_and_does_not_warn(architecture: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = trained_like(architecture, dropout=0.5)
    inputs = example()
    assert torch.equal(network(*inputs), network(*inputs))
    network.train()
    assert not torch.equal(network(*inputs), network(*inputs))


@each_architecture
def test_specification_survives_json(architecture: str) -> None:
    original = spec(architecture, horizon=2, dropout=0.30000000000000004)
    assert NetworkSpec(**json.loads(json.dumps(original.to_dict()))) == original
    assert build_network(original).spec == original


def test_attention_over_time_masks_sessions_without_tickers() -> None:
    network = trained_like("lstm_attention")
    x, valid = example()
    valid[:, 2] = False
    with torch.no_grad():
        before = network(x, valid)
        # The position embedding is the only input left of a masked session.
        network.get_parameter("positions")[2] += 5.0
    assert torch.equal(network(x, valid), before)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_lstm_for_wide_inputs_agrees_with_pytorch(layers: int, training: bool) -> None:
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
def test_recurrent_layers_receive_contiguous_inputs(architecture: str) -> None:
    """Otherwise PyTorch copies them."""
    data = learnable_data()
    network = build_network(spec(architecture))
    seen: list[bool] = []
    network.get_submodule("recurrent").register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous())
    )
    network(*data.windows.batch(torch.as_tensor(data.train[:4])))
    assert seen == [True]


def test_pick_device_returns_a_working_device() -> None:
    assert torch.zeros(1, device=pick_device()).sum() == 0
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_device_is_an_error() -> None:
    with pytest.raises(StockAssetsError, match="no CUDA device"):
        pick_device("cuda")
