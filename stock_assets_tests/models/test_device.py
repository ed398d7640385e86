"""Passes through a network: their size by the memory of the device, and results on CUDA."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stock_assets.models import device
from stock_assets.models.device import (
    Budget,
    _budget,
    on_device,
    share_memory,
    windows_per_pass,
)
from stock_assets.models.intervals import ScaledIntervals
from stock_assets.models.networks import Network, NetworkSpec, build_network
from stock_assets.models.training import fit, forecast_scaled, weights_digest
from stock_assets_tests.models.bundles import bundle, calibrated, calibration_sessions
from stock_assets_tests.models.examples import ARCHITECTURES, fit_settings, learnable_data, spec

DATA = learnable_data()
GIBIBYTE = 2**30


def market(architecture: str, tickers: int) -> Network:
    """Return a network for that many tickers with 35 features."""
    return build_network(NetworkSpec(architecture, tickers, 35, 30, 64, 2, 0.0))


def test_windows_per_pass_bounds_the_memory_of_shared_weights() -> None:
    def windows(architecture: str, tickers: int) -> int:
        return windows_per_pass(market(architecture, tickers), gradients=True)

    assert windows("lstm", 500) > 5 * windows("lstm_cross_attention", 500)
    assert windows("lstm_cross_attention", 50) > 1
    assert windows("lstm_cross_attention", 5000) == 1


def test_passes_of_forecasts_are_at_most_256_windows_on_a_cpu() -> None:
    small = build_network(spec())
    assert windows_per_pass(small, gradients=True) > 256
    assert windows_per_pass(small, gradients=False) == 256


@pytest.mark.parametrize(
    ("free", "unused", "expected"),
    [(100, 0, 32), (127, 0, 32), (128, 0, 64), (100, 28, 64), (0, 0, 0)],
)
def test_a_pass_on_cuda_has_up_to_half_of_the_free_memory(
    free: int, unused: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free * GIBIBYTE, 140 * GIBIBYTE))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: (unused + 1) * GIBIBYTE)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: GIBIBYTE)
    budget = _budget(torch.device("cuda", 0))
    assert budget.bytes // GIBIBYTE == expected
    assert budget.windows > 256


def test_processes_divide_the_memory_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (96 * GIBIBYTE, 140 * GIBIBYTE))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    monkeypatch.setattr(device, "_processes", 1)
    found = []
    for processes in (1, 2, 3):
        share_memory(processes)
        found.append(_budget(torch.device("cuda", 0)).bytes // GIBIBYTE)
    assert found == [32, 16, 16]
    assert all(processes * own <= 48 for processes, own in zip((1, 2, 3), found, strict=True))


def test_a_network_returns_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(spec())
    moves: list[str] = []
    honest = network.to
    monkeypatch.setattr(network, "to", lambda target: (moves.append(str(target)), honest("cpu")))
    monkeypatch.setattr(network, "cpu", lambda: moves.append("cpu"))
    with pytest.raises(ValueError, match="stop"), on_device(network, torch.device("cuda", 0)):
        raise ValueError("stop")
    assert moves == ["cuda:0", "cpu"]


def test_the_pass_of_the_cpu_is_a_constant() -> None:
    assert _budget(torch.device("cpu")) == Budget(32 * 2**20, 256)


def passes(network: Network) -> list[int]:
    """Return a list that grows by the windows of each later pass."""
    seen: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    return seen


def test_forecasts_and_training_are_cut_into_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(spec())
    seen = passes(network)
    budget = Budget(10 * network.bytes_per_window(), 4)
    monkeypatch.setattr("stock_assets.models.device._CPU", budget)
    forecast_scaled(network, DATA.windows, np.arange(20, 29))
    assert seen == [4, 4, 1]
    seen.clear()
    fit(network, replace(DATA, train=DATA.train[:30]), fit_settings(epochs=1, batch_size=25))
    assert seen[:3] == [10, 10, 5]
    assert max(seen[4:]) == 4


on_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"
)


def trained(architecture: str, device: str) -> Network:
    network = build_network(spec(architecture, dropout=0.0), 7)
    fit(network, DATA, fit_settings(epochs=3, device=device))
    return network


@pytest.mark.cuda
@on_cuda
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_on_cuda_agrees_with_the_cpu_and_with_itself(architecture: str) -> None:
    first, again, cpu = (trained(architecture, device) for device in ("cuda", "cuda", "cpu"))
    assert weights_digest(first) == weights_digest(again)
    forecasts = [forecast_scaled(one, DATA.windows, DATA.validation) for one in (first, cpu)]
    np.testing.assert_allclose(*forecasts, atol=3e-4)


@pytest.mark.cuda
@on_cuda
def test_large_batches_are_one_pass_on_cuda() -> None:
    network = market("lstm", 500).cuda()
    assert windows_per_pass(network, gradients=True) > 1000
    small = build_network(spec()).cuda()
    seen = passes(small)
    forecast_scaled(small, DATA.windows, np.resize(np.arange(20, 100), 4000))
    assert seen == [4000]


@pytest.mark.cuda
@on_cuda
def test_calibration_on_cuda_agrees_with_the_cpu() -> None:
    cpu = calibrated(bundle())
    model = bundle()
    seen = passes(model.network)
    with on_device(model.network, torch.device("cuda", 0)):
        cuda = calibrated(model)
    assert seen == [len(calibration_sessions())]
    first, second = (own.recipe.intervals for own in (cpu, cuda))
    assert isinstance(first, ScaledIntervals)
    assert isinstance(second, ScaledIntervals)
    np.testing.assert_allclose(second.residuals, first.residuals, atol=3e-3)
    assert next(model.network.parameters()).device.type == "cpu"
