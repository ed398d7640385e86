"""Check, with random inputs, that a custom network keeps the contract of a network.

The contract is that of :class:`stock_assets.models.networks.Network`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from stock_assets.models.networks import Network


@torch.no_grad()
def contract_fault(network: Network) -> str | None:
    """Run a network with random weights; return how it breaks the contract, or None."""
    spec, trial = network.spec, copy.deepcopy(network).eval()
    random = torch.Generator().manual_seed(0)
    for weight in trial.parameters():
        weight.copy_(0.1 * torch.randn(weight.shape, generator=random))
    x = torch.randn(2, spec.window, spec.tickers, spec.features, generator=random)
    valid = torch.ones(x.shape[:3], dtype=torch.bool)
    valid[:, range(spec.window - 2, -1, -2), 0] = (
        False  # gaps of one ticker, and another one that is never valid
    )
    valid[:, :, 1:2] = False
    forecast, expected = trial(x, valid), (2, spec.horizon, spec.tickers)
    if (tuple(forecast.shape), forecast.dtype) != (expected, torch.float32):
        return f"its output is {forecast.dtype} of shape {tuple(forecast.shape)}, not {expected}"
    junk = x.masked_fill(~valid.unsqueeze(-1), float("nan"))
    present = valid[:, -1].unsqueeze(1).expand_as(forecast)
    if not torch.equal(trial(junk, valid)[present], forecast[present]):
        return "invalid values of x reach its output"
    alone = trial(x[:1], valid[:1])[present[:1]]
    if not torch.allclose(alone, forecast[:1][present[:1]], rtol=1e-3, atol=1e-5):
        return "a window changes the forecast of another one in its batch"
    return None
